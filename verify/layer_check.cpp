#include "verify/layer_check.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "kernels/gpu.hpp"
#include "packer/format/error.hpp"
#include "verify/activations.hpp"
#include "verify/fragment_decoder.hpp"
#include "verify/weight_error.hpp"

namespace mpk {
namespace {

/// The tensors as they are spelled here, which may be another way than the format's usual one.
std::vector<PartSpec> spelling(const PartViews& parts) {
  std::vector<PartSpec> specs;
  for (const auto& [suffix, part] : parts) specs.push_back({suffix, part.dtype, part.shape});
  return specs;
}

bool is_usual(const std::vector<PartSpec>& specs, const std::vector<PartSpec>& usual) {
  return specs.size() == usual.size() && std::ranges::all_of(usual, [&](const PartSpec& spec) {
           return std::ranges::find(specs, spec) != specs.end();
         });
}

std::vector<Part> write_again(const WeightFormat& format, const QuantizedMatrix& matrix,
                              const Geometry& geometry, const std::vector<PartSpec>& specs) {
  std::vector<Part> parts = allocate(specs);
  format.write(matrix, geometry, buffers_of(parts));
  return parts;
}

bool same_bytes(const std::vector<Part>& made, const PartViews& stored) {
  return made.size() == stored.size() && std::ranges::all_of(made, [&](const Part& part) {
           const auto it = stored.find(part.suffix);
           return it != stored.end() && std::ranges::equal(part.tensor.data, it->second.data);
         });
}

Claims claims_of(const ManifestLayer& record) {
  Claims claims;
  claims.bits = record.scheme.type.bits;
  claims.group_size = group_size_number(record.scheme);
  claims.type = record.scheme.type;
  if (record.layout == "gptq-v2") claims.dialect = "gptq_v2";
  return claims;
}

template <class T>
std::vector<T> elements(const TensorView& tensor) {
  std::vector<T> values(tensor.data.size() / sizeof(T));
  std::memcpy(values.data(), tensor.data.data(), values.size() * sizeof(T));
  return values;
}

/// The artifact's own bytes for the kernel; nullopt where no kernel reads this layout, or none that this GPU
/// has the tensor cores for.
std::optional<GpuLinear> load_layer(const ManifestLayer& record, const PartViews& parts,
                                    const std::optional<LayerShape>& layer) {
  struct Row {
    const char *layout, *words, *scales;
  };
  constexpr Row kRows[] = {{"marlin", "qweight", "scales"},
                           {"awq-marlin", "qweight", "scales"},
                           {"marlin-a8", "qweight", "scales"},
                           {"marlin-original", "B", "s"}};
  const auto row = std::ranges::find(kRows, record.layout, &Row::layout);
  if (row == std::end(kRows) || !layer) return std::nullopt;
  if (layer->activations8 == Activation8::e4m3 && gpu_status().capability < kFp8Capability)
    return std::nullopt;
  const auto words = elements<std::uint32_t>(parts.at(row->words));
  LayerTensors tensors{.words = words, .scales = parts.at(row->scales).data};
  std::vector<std::uint32_t> zero_points;
  std::vector<std::int32_t> perm;
  if (zero_bits(layer->weight) > 0) zero_points = elements<std::uint32_t>(parts.at("qzeros"));
  if (layer->act_order) perm = elements<std::int32_t>(parts.at("perm"));
  if (layer->weight == Weight::nvfp4) tensors.global_scale = elements<float>(parts.at("global_scale")).at(0);
  tensors.zero_points = zero_points;
  tensors.perm = perm;
  return GpuLinear{*layer, tensors};
}

GpuReference gpu_product(const MatrixF& weights, const KernelActivations& activations,
                         const GemmRoundings& roundings, M m) {
  const std::span<const float> values{weights.data(), static_cast<std::size_t>(weights.size())};
  const K k{weights.rows()};
  const N n{weights.cols()};
  if (roundings.activations8)
    return gpu_reference(values, k, n, QuantizedRows{activations.bytes, activations.row_scales}, m,
                         *roundings.activations8);
  return gpu_reference(values, k, n, activations.halves, m, roundings.output);
}

/// `dtype`: of the activations that the layout is for.
void check_products(LayerCheck& check, const ManifestLayer& record, DType dtype, const PartViews& parts,
                    const QuantizedMatrix& unpacked, const QuantizedMatrix& by_fragments,
                    const CheckOptions& options) {
  const MatrixF weights = dequantize(unpacked);
  const LayerArithmetic arithmetic = arithmetic_of(record.scheme, dtype, record.k, record.n);
  const GemmRoundings usual =
      arithmetic.roundings.with_scales_up_to(static_cast<double>(unpacked.scales.cwiseAbs().maxCoeff()));
  const std::optional<GpuLinear> linear =
      options.use_gpu ? load_layer(record, parts, arithmetic.kernel) : std::optional<GpuLinear>{};
  check.kernel = linear ? gpu_status().name : "CPU decoder";
  const auto product_of = [&](const KernelActivations& activations, const GemmRoundings& roundings, M m) {
    Reference reference;
    std::vector<std::uint16_t> output;
    if (linear) {
      GpuReference exact = gpu_product(weights, activations, roundings, m);
      reference = {std::move(exact.product), std::move(exact.magnitude)};
      output = roundings.activations8
                   ? linear->multiply(QuantizedRows{activations.bytes, activations.row_scales}, m)
                   : linear->multiply(activations.halves, m);
    } else {
      reference = reference_product(weights, activations, m);
      output = emulate_kernel(by_fragments, arithmetic, activations, m);
    }
    return check_product(output, reference, activations, roundings, record.k, record.n, m);
  };
  for (const M m : options.rows) {
    GemmCheck product = product_of(
        outlier_activations(m, record.k, options.seed, usual.output, usual.activations8), usual, m);
    if (usual.activations8 == Activation8::e4m3) {
      // The few bits that FP8 sums keep would hide a wrong weight; whole numbers do not need more.
      GemmRoundings exact = usual;
      exact.exact_fp8 = true;
      const GemmCheck whole = product_of(whole_fp8_activations(m, record.k, options.seed), exact, m);
      if (!(whole.worst <= product.worst)) product.worst = whole.worst;
    }
    check.products.push_back(product);
    if (!product.passed())
      check.failures.push_back(
          fmt::format("{}: the product of {} rows is off by {:.3g} times the error bound", check.kernel,
                      m.value, product.worst));
  }
}

}  // namespace

CheckedLayer check_layer(const ManifestLayer& record, const PartViews& parts, const CheckOptions& options) {
  CheckedLayer result;
  LayerCheck& check = result.check;
  check.module = record.module;
  check.scheme = record.scheme;
  check.k = record.k;
  check.n = record.n;
  const WeightFormat* format = weight_format_named(record.layout);
  if (!format) {
    check.failures.push_back(fmt::format("layout {} is unknown to this version", record.layout));
    return result;
  }
  try {
    const Geometry geometry{record.scheme, record.k, record.n};
    const std::vector<PartSpec> specs = spelling(parts);
    const bool usual = !format->refusal(record.scheme, record.k, record.n) &&
                       is_usual(specs, format->specs(record.scheme, record.k, record.n));
    if (usual) {
      result.matrix = format->decode(parts, record.scheme, record.k, record.n);
    } else {
      const auto found = format->recognize(parts, claims_of(record));
      if (!found || found->k != record.k || found->n != record.n)
        throw Error{ErrorKind::mismatch, "the tensors are not what the manifest says of them"};
      result.matrix = read_columns({format, geometry}, parts, {0, record.n.value});
    }
    check.round_trip = same_bytes(write_again(*format, result.matrix, geometry, specs), parts);
    if (!check.round_trip) check.failures.emplace_back("packing the unpacked codes again gives other bytes");
    check.codes_recorded =
        record.codes_sha256.empty() || sha256_of_codes(result.matrix.codes) == record.codes_sha256;
    if (!check.codes_recorded)
      check.failures.emplace_back("the unpacked codes are not the ones the quantizer made");
    // Unusual spellings come from other tools; the second decoder knows what this one writes.
    const QuantizedMatrix by_fragments =
        usual ? decode_by_fragments(record.layout, parts, record.scheme, record.k, record.n) : result.matrix;
    check.decoders_agree = same_bits(by_fragments, result.matrix);
    if (!check.decoders_agree) check.failures.emplace_back("the two decoders read different codes or scales");
    check_products(check, record, format->activations(record.scheme), parts, result.matrix, by_fragments,
                   options);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::device) throw;
    check.failures.emplace_back(error.what());
  }
  return result;
}

void check_against_source(LayerCheck& check, const ManifestLayer& record, const QuantizedMatrix& matrix,
                          const MatrixF& original, const MatrixF* inputs) {
  if (original.rows() != matrix.codes.rows() || original.cols() != matrix.codes.cols()) {
    check.failures.push_back(fmt::format("the source's weight is ({}, {}), the packed one ({}, {})",
                                         original.cols(), original.rows(), matrix.codes.cols(),
                                         matrix.codes.rows()));
    return;
  }
  const MatrixF decoded = dequantize(matrix);
  // What was quantized, in the order in which the scales were folded. Most layers have none: no copy then.
  MatrixF scaled_weight, scaled_inputs;
  if (!record.input_scales.empty() || !record.output_scales.empty()) scaled_weight = original;
  const MatrixF& scaled = scaled_weight.size() > 0 ? scaled_weight : original;
  if (!record.input_scales.empty()) {
    const Eigen::Map<const Eigen::ArrayXf> scales{record.input_scales.data(), scaled.rows()};
    scaled_weight.array().colwise() *= scales;
    if (inputs) scaled_inputs = (inputs->array().colwise() / scales).matrix();
  }
  if (!record.output_scales.empty())
    scaled_weight.array().rowwise() /=
        Eigen::Map<const Eigen::ArrayXf>{record.output_scales.data(), scaled.cols()}.transpose();
  check.weight_error = weight_error(scaled, decoded);
  if (inputs)
    check.output_error = output_error(scaled, decoded, scaled_inputs.size() > 0 ? scaled_inputs : *inputs);
  // The same sums in the same order; only another compiler's vectorization may move the last digits.
  constexpr double kSummation = 1e-9;
  if (record.weight_error &&
      !(std::abs(*check.weight_error - *record.weight_error) <= kSummation * *record.weight_error))
    check.failures.push_back(
        fmt::format("weight error {:.6g} against this source, {:.6g} when it was quantized",
                    *check.weight_error, *record.weight_error));
}

}  // namespace mpk
