#include "packer/weight_format.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/formats/formats.hpp"

namespace mpk {
namespace {

void require_writes(const WeightFormat& format) {
  if (!format.writes())
    throw Error{ErrorKind::unsupported, fmt::format("format {} is read, not written", format.name)};
}

}  // namespace

DType activations_of_16_bits(const Scheme& scheme) {
  if (scheme.activations == DType::F16 || scheme.activations == DType::BF16) return *scheme.activations;
  const bool bf16 = scheme.scale_dtype == DType::BF16 || scheme.scale_dtype == DType::F8_E8M0;
  return bf16 ? DType::BF16 : DType::F16;
}

std::span<const WeightFormat> weight_formats() {
  static const std::array table{
      formats::awq_marlin(),  // claims what it needs; by its tensors it would be row marlin
      formats::marlin(),
      formats::marlin_a8(),
      formats::gptq(),
      formats::gptq_v2(),
      formats::marlin_original(),
      formats::ct_float_quantized(),
      formats::fp8(),
      formats::ct_nvfp4(),
      formats::modelopt_nvfp4(),
      formats::ct_mxfp4(),
      formats::ct_mxfp8(),
      formats::gpt_oss_mxfp4(),
      formats::awq(),
      formats::awq_gemv(),
      formats::awq_gemv_fast(),
      formats::ct_pack_quantized(),  // before int: what is written, unless a checkpoint came the other way
      formats::ct_int_quantized(),
      formats::hqq(),
      formats::marlin_24(),
      formats::ct_marlin_24(),
  };
  return table;
}

const WeightFormat* weight_format_named(std::string_view name) {
  for (const WeightFormat& format : weight_formats())
    if (name == format.name) return &format;
  return nullptr;
}

std::vector<std::string> writable_families() {
  std::vector<std::string> families;
  for (const WeightFormat& format : weight_formats())
    if (format.writes() && std::ranges::find(families, format.family) == families.end())
      families.emplace_back(format.family);
  return families;
}

std::vector<const WeightFormat*> family_rows(std::string_view family) {
  std::vector<const WeightFormat*> rows;
  for (const WeightFormat& format : weight_formats())
    if (family == format.family && format.writes()) rows.push_back(&format);
  return rows;
}

std::vector<Part> WeightFormat::encode(const QuantizedMatrix& q) const {
  require_writes(*this);
  formats::refuse(refusal, q.scheme, q.k(), q.n());
  formats::require_consistent(q);
  std::vector<Part> parts = allocate(specs(q.scheme, q.k(), q.n()));
  write(q, {q.scheme, q.k(), q.n()}, buffers_of(parts));
  return parts;
}

QuantizedMatrix WeightFormat::decode(const PartViews& parts, const Scheme& scheme, K k, N n) const {
  require_writes(*this);
  formats::refuse(refusal, scheme, k, n);
  require(parts, specs(scheme, k, n));
  QuantizedMatrix q = make_matrix(scheme, k, n);
  read(parts, {scheme, k, n}, q);
  return q;
}

std::optional<StoredMatrix> recognize(const PartViews& parts, const Claims& claims) {
  PartViews own = parts;
  std::erase_if(own, [](const auto& part) { return is_companion(part.first); });
  for (const WeightFormat& format : weight_formats()) {
    if (!format.reads()) continue;
    // What marlin-pack wrote says which row it is; several have tensors of the same names and shapes.
    if (claims.method == "marlin-pack" && claims.dialect != format.name) continue;
    const auto found =
        within(std::string{"format "} + format.name, [&] { return format.recognize(own, claims); });
    if (found) return StoredMatrix{&format, *found};
  }
  return std::nullopt;
}

bool is_companion(std::string_view suffix) {
  constexpr std::string_view kCompanions[] = {
      "bias",    "input_scale", "input_zero_point", "input_global_scale",
      "k_scale", "v_scale",     "q_scale",          "output_scale"};
  return std::ranges::find(kCompanions, suffix) != std::end(kCompanions);
}

QuantizedMatrix read_columns(const StoredMatrix& stored, const PartViews& parts, ColumnRange columns) {
  QuantizedMatrix q = make_matrix(stored.geometry.scheme, stored.geometry.k, N{columns.count}, columns.first);
  stored.format->read(parts, stored.geometry, q);
  return q;
}

}  // namespace mpk
