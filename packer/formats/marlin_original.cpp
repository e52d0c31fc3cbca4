// "marlin-original": the checkpoint of the first Marlin kernel (IST-DASLab/marlin), as AutoGPTQ marked it.

#include <fmt/format.h>

#include "packer/formats/marlin_layout.hpp"

namespace mpk::formats {
namespace {

constexpr MarlinNames kNames{"B", "s"};

std::optional<std::string> refusal(const Scheme& scheme, K k, N n) {
  if (auto why = integer_refusal("marlin-original", scheme, k, n)) return why;
  if (scheme.act_order)
    return "marlin-original has no act_order; use format marlin, which stores the order of the rows";
  if (scheme.type != kU4B8)
    return fmt::format("marlin-original holds u4b8 codes, not {}; use format marlin", name_of(scheme.type));
  if (scheme.scale_dtype != DType::F16)
    return fmt::format("marlin-original holds F16 scales, not {}; use format marlin",
                       info(scheme.scale_dtype).name);
  if (const std::int64_t g = group_size_number(scheme); g != -1 && g != 128)
    return fmt::format("marlin-original has group_size -1 or 128, not {}; use format marlin", g);
  if (k.value % 128 != 0 || n.value % 256 != 0)
    return fmt::format(
        "marlin-original needs K % 128 == 0 and N % 256 == 0; here K = {} (% 128 = {}), N = {} (% 256 = "
        "{}); use format marlin",
        k.value, k.value % 128, n.value, n.value % 256);
  return std::nullopt;
}

std::vector<PartSpec> specs(const Scheme& scheme, K k, N n) {
  return marlin_specs(kNames, scheme, k, n);
}

std::optional<Geometry> recognize(const PartViews& parts, const Claims& claims) {
  if (!has_exactly(parts, {kNames.codes, kNames.scales})) return std::nullopt;
  const Geometry found = marlin_geometry(kNames, parts, claims);
  refuse(refusal, found.scheme, found.k, found.n);
  require(parts, specs(found.scheme, found.k, found.n));
  return found;
}

void read(const PartViews& parts, const Geometry& geometry, QuantizedMatrix& out) {
  read_marlin(kNames, parts, geometry, out);
}

void write(const QuantizedMatrix& q, const Geometry& geometry, const PartBuffers& out) {
  write_marlin(kNames, q, geometry, out);
}

nlohmann::json quantization_config(const CheckpointSchemes& schemes) {
  nlohmann::json config = gptq_config("marlin", schemes);
  config["is_marlin_format"] = true;  // how AutoGPTQ up to 0.7.1 said it
  return config;
}

}  // namespace

WeightFormat marlin_original() {
  return {.name = "marlin-original",
          .family = "marlin-original",
          .summary = "the first Marlin kernel's checkpoint (IST-DASLab): 4 bit, F16, group_size -1 or 128",
          .suffixes = {kNames.codes, kNames.scales},
          .recognize = recognize,
          .read = read,
          .refusal = refusal,
          .specs = specs,
          .write = write,
          .quantization_config = quantization_config};
}

}  // namespace mpk::formats
