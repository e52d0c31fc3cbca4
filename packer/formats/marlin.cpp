// "marlin": what today's Marlin kernels read, as vLLM's gptq_marlin_repack and marlin_permute_scales make it.

#include <fmt/format.h>

#include "packer/formats/marlin_layout.hpp"

namespace mpk::formats {
namespace {

constexpr MarlinNames kNames{"qweight", "scales"};

std::optional<std::string> refusal(const Scheme& scheme, K k, N n) {
  if (auto why = integer_refusal("marlin", scheme, k, n)) return why;
  if (scheme.type != kU4B8 && scheme.type != kU8B128)
    return fmt::format("marlin has u4b8 and u8b128 codes, not {}", name_of(scheme.type));
  const bool wide_k = n.value % 64 == 0 && k.value % 128 == 0,
             wide_n = n.value % 128 == 0 && k.value % 64 == 0;
  if (!wide_k && !wide_n)
    return fmt::format(
        "marlin needs K % 128 == 0 and N % 64 == 0, or K % 64 == 0 and N % 128 == 0; here K = {} (% 128 = "
        "{}), N = {} (% 128 = {}); leave the module unquantized or use format gptq",
        k.value, k.value % 128, n.value, n.value % 128);
  const std::int64_t g = group_size_number(scheme);
  if (g != -1 && g != 32 && g != 64 && g != 128)
    return fmt::format("marlin kernels read group_size -1, 32, 64 and 128, not {}", g);
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

nlohmann::json scheme_fields(const Scheme& scheme) {
  return {{"bits", scheme.type.bits},
          {"group_size", group_size_number(scheme)},
          {"scale_dtype", info(scheme.scale_dtype).name}};
}

// No engine reads this layout from disk: they repack gptq, AWQ or compressed-tensors tensors when they load.
// Under a name that one of them knows it would repack these bytes again, hence a quant_method of our own.
nlohmann::json quantization_config(const CheckpointSchemes& schemes) {
  nlohmann::json config = scheme_fields(schemes.common);
  config["quant_method"] = "marlin-pack";
  config["checkpoint_format"] = "marlin";
  config["sym"] = true;
  config["desc_act"] = false;
  config["lm_head"] = false;
  config["overrides"] = nlohmann::json::object();
  for (const auto& [module, scheme] : real_exceptions(schemes))
    config["overrides"][module] = scheme_fields(scheme);
  config["ignore"] = schemes.unquantized;
  return config;
}

}  // namespace

WeightFormat marlin() {
  return {.name = "marlin",
          .family = "marlin",
          .summary = "the layout Marlin kernels read (vLLM's, after its repack): 4 and 8 bit, F16 and BF16",
          .suffixes = {kNames.codes, kNames.scales},
          .recognize = recognize,
          .read = read,
          .refusal = refusal,
          .specs = specs,
          .write = write,
          .quantization_config = quantization_config};
}

}  // namespace mpk::formats
