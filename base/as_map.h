#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/address_group.h"
#include "base/ids.h"
#include "base/result.h"

namespace bulkhead {

/// Autonomous system numbers by prefix: who announces an address is a better group than its first bits. Immutable, and
/// cheap to copy. Its flat form goes into memory that several processes read.
///
/// It is held as disjoint ranges, of which a look-up finds one by halving: at most 2 n + 1 for n prefixes, of 8 bytes
/// (IPv4) or 20 bytes (IPv6) each. So 500,000 prefixes take at most 8 MB when all are of IPv4, 20 MB when all are of
/// IPv6; half of that for prefixes that lie side by side, as most do.
class AsMap {
 public:
  static constexpr std::size_t kMaximumLines = 4'000'000;
  static constexpr std::size_t kMaximumText = std::size_t{128} << 20;  ///< bytes of a file

  /// No prefix.
  AsMap() = default;

  /// Lines "PREFIX ASN", the number from 1 to 4294967295 with or without "AS" before it; empty lines, and what follows
  /// a #, are passed over. Of two lines of one prefix the later counts. kInvalid names the line and what was expected
  /// there; at most kMaximumLines.
  static Result<AsMap> parse(std::string_view text);
  /// The same from a regular file of at most kMaximumText bytes. The error names the file, and the line.
  static Result<AsMap> load(const std::string& path);
  /// A map in its flat form, at the beginning of `flat`, which must outlive all copies and stay as it is. Sizes are
  /// checked, so that no look-up leaves `flat` whatever stands in it: kBroken.
  static Result<AsMap> view(std::span<const std::byte> flat);

  /// The flat form, for view(). Of this machine's byte order.
  std::span<const std::byte> flat() const { return flat_; }

  /// By the longest prefix that has the address. Nothing: none has it.
  std::optional<std::uint32_t> number_of(const Address& address) const;
  /// The group of that number, else as the free function.
  AddressGroup group_of(const Address& address) const;
  /// Prefixes.
  std::size_t size() const { return prefixes_; }

 private:
  std::shared_ptr<const std::vector<std::byte>> own_;
  std::span<const std::byte> flat_;
  std::size_t prefixes_ = 0;
  std::size_t ranges4_ = 0;
  std::size_t ranges6_ = 0;
};

}  // namespace bulkhead
