#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

#include "schema/messages.h"

namespace bulkhead::schema {

/// The lists that an import may fill; grey is the layer's own.
enum class ImportList : std::uint8_t { kBlack = 0, kWhite = 1 };

/// One entry in the file beside ControlImport: rows in a row, without a header. As hostile as any other request:
/// whoever reads it checks every field.
struct ImportRow {
  std::array<std::uint8_t, 16>
      subject;             ///< an address (IPv4 as ::ffff:a.b.c.d), bits beyond the length 0; or a peer id
  std::int64_t until_ms;   ///< of the Unix epoch, 0: for ever
  std::uint8_t list;       ///< ImportList
  std::uint8_t is_peer;    ///< 0 or 1
  std::uint8_t length;     ///< of the prefix, 0 to 128; of a peer id 128
  std::uint8_t text_size;  ///< at most kMaximumAclText
  std::array<char, 52> text;
};
static_assert(sizeof(ImportRow) == 80 && std::has_unique_object_representations_v<ImportRow>);
static_assert(kMaximumAclText <= sizeof(ImportRow::text));

}  // namespace bulkhead::schema
