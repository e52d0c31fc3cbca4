#include "packer/weight_format.hpp"

#include <algorithm>
#include <array>

#include "packer/format/error.hpp"
#include "packer/formats/formats.hpp"

namespace mpk {

std::span<const WeightFormat> weight_formats() {
  static const std::array table{
      formats::marlin(),
      formats::gptq(),
      formats::marlin_original(),
  };
  return table;
}

const WeightFormat* weight_format_named(std::string_view name) {
  for (const WeightFormat& format : weight_formats())
    if (name == format.name) return &format;
  return nullptr;
}

std::optional<StoredMatrix> recognize(const PartViews& parts) {
  PartViews own = parts;
  own.erase("bias");  // plain in every format, so no format owns it
  for (const WeightFormat& format : weight_formats()) {
    const bool all_there = std::ranges::all_of(
        format.suffixes, [&](std::string_view suffix) { return own.find(suffix) != own.end(); });
    if (!all_there || own.size() != format.suffixes.size()) continue;
    return within(std::string{"format "} + format.name, [&] {
      const Geometry found = format.geometry(own);
      if (const auto why = format.refusal(found.scheme, found.k, found.n))
        throw Error{ErrorKind::unsupported, *why};
      require(own, format.specs(found.scheme, found.k, found.n));
      return StoredMatrix{&format, found};
    });
  }
  return std::nullopt;
}

}  // namespace mpk
