#include "base/as_map.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/fd.h"
#include "base/prefix.h"

namespace bulkhead {
namespace {

/// In front of the flat form. Behind it, without gaps: the first addresses of the ranges of IPv4 (a number of 4 bytes
/// each), their AS numbers, the first addresses of the ranges of IPv6 (16 bytes in network order each), their AS
/// numbers. Ranges are in ascending order, the first begins with the family's first address, each ends where the next
/// begins; an AS number of 0 says that nobody has the range.
struct Header {
  std::array<char, 8> mark{};
  std::uint32_t prefixes = 0;
  std::uint32_t ranges4 = 0;
  std::uint32_t ranges6 = 0;
  std::uint32_t unused = 0;
};
constexpr std::array<char, 8> kMark = {'a', 's', '-', 'm', 'a', 'p', '0', '1'};
constexpr std::size_t kRange4 = 2 * sizeof(std::uint32_t);
constexpr std::size_t kAddressBytes = 16;
constexpr std::size_t kRange6 = kAddressBytes + sizeof(std::uint32_t);

struct Entry {
  Prefix prefix;
  std::uint32_t number = 0;
};

struct Range {
  Address first;
  std::uint32_t number = 0;
};

Error bad_line(std::size_t line, const std::string& what) {
  return Error{ErrorCode::kInvalid, "line " + std::to_string(line) + ": " + what};
}

std::string_view next_word(std::string_view& line) {
  constexpr std::string_view kBlank = " \t\r";
  const std::size_t begin = std::min(line.find_first_not_of(kBlank), line.size());
  const std::size_t end = std::min(line.find_first_of(kBlank, begin), line.size());
  const std::string_view word = line.substr(begin, end - begin);
  line.remove_prefix(end);
  return word;
}

/// 0: it is none.
std::uint32_t parse_as_number(std::string_view word) {
  if (word.starts_with("AS")) word.remove_prefix(2);
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  return error == std::errc() && end == word.data() + word.size() ? value : 0;
}

/// The address after the last one of the prefix; nothing when that is the last of its family.
std::optional<Address> end_of(const Prefix& prefix) {
  Address end = prefix.address;
  const std::size_t first_byte = is_ipv4(prefix) ? kAddressBytes - 4 : 0;
  // Adds one at the last bit of the prefix.
  if (prefix.length <= first_byte * 8) return std::nullopt;
  std::size_t at = (prefix.length - 1U) / 8;
  unsigned int carry = 1U << (7 - (prefix.length - 1U) % 8);
  for (;; --at) {
    carry += end.bytes[at];
    end.bytes[at] = static_cast<std::uint8_t>(carry);
    carry >>= 8;
    if (carry == 0) return end;
    if (at == first_byte) return std::nullopt;
  }
}

/// The prefixes of one family, in order, as disjoint ranges.
std::vector<Range> ranges_of(std::span<const Entry> entries, const Address& first) {
  std::vector<Range> ranges;
  const auto emit = [&](const Address& at, std::uint32_t number) {
    if (!ranges.empty() && ranges.back().first == at) ranges.pop_back();
    if (ranges.empty() || ranges.back().number != number) ranges.push_back({at, number});
  };
  struct Open {
    std::optional<Address> end;
    std::uint32_t number = 0;
  };
  std::vector<Open> open;
  const auto close_until = [&](const Address* next) {
    while (!open.empty() && (next == nullptr || (open.back().end && *open.back().end <= *next))) {
      const std::optional<Address> end = open.back().end;
      open.pop_back();
      if (end) emit(*end, open.empty() ? 0 : open.back().number);
    }
  };
  emit(first, 0);
  for (const Entry& entry : entries) {
    close_until(&entry.prefix.address);
    open.push_back({end_of(entry.prefix), entry.number});
    emit(entry.prefix.address, entry.number);
  }
  close_until(nullptr);
  return ranges;
}

std::uint32_t number4(const Address& address) {
  std::uint32_t value = 0;
  for (std::size_t i = kAddressBytes - 4; i < kAddressBytes; ++i) value = value << 8 | address.bytes[i];
  return value;
}

std::uint32_t load32(std::span<const std::byte> from, std::size_t index) {
  std::uint32_t value = 0;
  std::memcpy(&value, from.data() + index * sizeof value, sizeof value);
  return value;
}

/// How many of `count` values, in ascending order, `is_after` refuses: those that come first.
template <typename IsAfter>
std::size_t count_until(std::size_t count, const IsAfter& is_after) {
  std::size_t low = 0;
  while (low < count) {
    const std::size_t middle = low + (count - low) / 2;
    if (is_after(middle)) {
      count = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

void append(std::vector<std::byte>& out, const void* data, std::size_t size) {
  const auto* bytes = static_cast<const std::byte*>(data);
  out.insert(out.end(), bytes, bytes + size);
}

void append(std::vector<std::byte>& out, std::uint32_t value) {
  append(out, &value, sizeof value);
}

std::vector<std::byte> flat_form(std::span<const Entry> entries) {
  std::vector<Entry> family[2];
  for (const Entry& entry : entries) family[is_ipv4(entry.prefix) ? 0 : 1].push_back(entry);
  Address first4{};
  first4.bytes[10] = first4.bytes[11] = 0xff;
  const auto ranges4 = ranges_of(family[0], first4);
  const auto ranges6 = ranges_of(family[1], Address{});
  const Header header{kMark, static_cast<std::uint32_t>(entries.size()), static_cast<std::uint32_t>(ranges4.size()),
                      static_cast<std::uint32_t>(ranges6.size())};
  std::vector<std::byte> flat;
  flat.reserve(sizeof header + ranges4.size() * kRange4 + ranges6.size() * kRange6);
  append(flat, &header, sizeof header);
  for (const Range& range : ranges4) append(flat, number4(range.first));
  for (const Range& range : ranges4) append(flat, range.number);
  for (const Range& range : ranges6) append(flat, range.first.bytes.data(), kAddressBytes);
  for (const Range& range : ranges6) append(flat, range.number);
  return flat;
}

Error of_file(const std::string& path, const std::string& what) {
  return Error{ErrorCode::kRefused, path + ": " + what};
}

}  // namespace

Result<AsMap> AsMap::parse(std::string_view text) {
  std::vector<Entry> entries;
  std::size_t line_number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (++line_number > kMaximumLines)
      return bad_line(line_number, "more than " + std::to_string(kMaximumLines) + " lines");
    line = line.substr(0, line.find('#'));
    const std::string_view prefix_text = next_word(line);
    if (prefix_text.empty()) continue;
    const auto prefix = parse_prefix(prefix_text);
    if (!prefix) return bad_line(line_number, prefix.error().text);
    const std::uint32_t as_number = parse_as_number(next_word(line));
    if (as_number == 0 || !next_word(line).empty())
      return bad_line(line_number, "expected \"PREFIX ASN\", as in \"192.0.2.0/24 64496\"");
    entries.push_back({*prefix, as_number});
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.prefix < b.prefix; });
  // Of equal ones the last.
  std::size_t kept = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (i + 1 < entries.size() && entries[i].prefix == entries[i + 1].prefix) continue;
    entries[kept++] = entries[i];
  }
  entries.resize(kept);
  auto own = std::make_shared<const std::vector<std::byte>>(flat_form(entries));
  auto map = view(*own);
  if (map) map->own_ = std::move(own);
  return map;
}

Result<AsMap> AsMap::load(const std::string& path) {
  // Without waiting for the other end, should it be a pipe.
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return of_file(path, std::string("the AS map cannot be read: ") + std::strerror(errno));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode))
    return of_file(path, "the AS map must be a regular file");
  const Error too_large = of_file(path, "the AS map has more than " + std::to_string(kMaximumText >> 20) + " MiB");
  if (info.st_size > static_cast<off_t>(kMaximumText)) return too_large;
  std::string text;
  std::array<char, 65536> piece{};
  for (;;) {
    const ssize_t got = ::read(file.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return of_file(path, std::string("the AS map cannot be read: ") + std::strerror(errno));
    if (got == 0) break;
    text.append(piece.data(), static_cast<std::size_t>(got));
    // It may have grown meanwhile.
    if (text.size() > kMaximumText) return too_large;
  }
  auto map = parse(text);
  if (!map) return of_file(path, map.error().text);
  return map;
}

Result<AsMap> AsMap::view(std::span<const std::byte> flat) {
  const Error broken{ErrorCode::kBroken, "this is no AS map"};
  Header header;
  if (flat.size() < sizeof header) return broken;
  std::memcpy(&header, flat.data(), sizeof header);
  const std::uint64_t size =
      sizeof header + std::uint64_t{header.ranges4} * kRange4 + std::uint64_t{header.ranges6} * kRange6;
  if (header.mark != kMark || size > flat.size()) return broken;
  AsMap map;
  map.flat_ = flat.first(static_cast<std::size_t>(size));
  map.prefixes_ = header.prefixes;
  map.ranges4_ = header.ranges4;
  map.ranges6_ = header.ranges6;
  return map;
}

std::optional<std::uint32_t> AsMap::number_of(const Address& address) const {
  if (flat_.empty()) return std::nullopt;
  auto take = [rest = flat_.subspan(sizeof(Header))](std::size_t size) mutable {
    const auto taken = rest.first(size);
    rest = rest.subspan(size);
    return taken;
  };
  const auto firsts4 = take(ranges4_ * sizeof(std::uint32_t));
  const auto numbers4 = take(ranges4_ * sizeof(std::uint32_t));
  const auto firsts6 = take(ranges6_ * kAddressBytes);
  const auto numbers6 = take(ranges6_ * sizeof(std::uint32_t));
  std::size_t before = 0;
  if (is_ipv4(address)) {
    const std::uint32_t key = number4(address);
    before = count_until(ranges4_, [&](std::size_t i) { return load32(firsts4, i) > key; });
  } else {
    before = count_until(ranges6_, [&](std::size_t i) {
      return std::memcmp(firsts6.data() + i * kAddressBytes, address.bytes.data(), kAddressBytes) > 0;
    });
  }
  if (before == 0) return std::nullopt;
  const std::uint32_t number = load32(is_ipv4(address) ? numbers4 : numbers6, before - 1);
  return number == 0 ? std::nullopt : std::optional(number);
}

AddressGroup AsMap::group_of(const Address& address) const {
  const auto number = number_of(address);
  return number ? group_of_as(*number) : bulkhead::group_of(address);
}

}  // namespace bulkhead
