// FP8: E4M3 codes, one byte each, and float scales for the matrix, for each column, for groups of a column or
// for blocks of rows and columns. "ct-float-quantized" is compressed-tensors' weight and weight_scale; "fp8"
// what DeepSeek, Hugging Face, ModelOpt and GPTQModel make of the same codes. They differ in the scales'
// name and shape, and in the configuration.

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/formats/float_parts.hpp"
#include "packer/scales.hpp"

namespace mpk::formats {
namespace {

constexpr const char *kWeight = "weight", *kScale = "weight_scale", *kScaleInv = "weight_scale_inv";
constexpr std::int64_t kUsualBlock = 128;

enum class Dialect { compressed_tensors, fp8 };

std::int64_t blocks_in(std::int64_t extent, std::int64_t size) {
  return (extent + size - 1) / size;
}

std::optional<std::string> fp8_refusal(const char* name, const Scheme& scheme, K k, N n) {
  Scheme multiplies = scheme;  // the one thing that common_refusal refuses and these rows know
  multiplies.scales_divide = false;
  if (auto why = float_refusal(name, kE4M3, multiplies, k, n)) return why;
  if (scheme.global_scale != GlobalScale::none) return fmt::format("{} has no global scale", name);
  if (scheme.scale_dtype != DType::F32 && scheme.scale_dtype != DType::BF16 &&
      scheme.scale_dtype != DType::F16)
    return fmt::format("scales of {} cannot be {}; F32, BF16 or F16", name, info(scheme.scale_dtype).name);
  if (scheme.columns_per_scale == Scheme::kAllColumns && scheme.groups(k).value > 1)
    return fmt::format("{} has no scale for {} rows of all columns", name, group_size_number(scheme));
  if (scheme.columns_per_scale > 1 && !scheme.group_size && k.value > kUsualBlock)
    return fmt::format("{} has no scale for all rows of {} columns", name, scheme.columns_per_scale);
  return std::nullopt;
}

std::optional<std::string> ct_refusal(const Scheme& scheme, K k, N n) {
  if (scheme.scales_divide) return "scales of compressed-tensors multiply, these divide; use format fp8";
  return fp8_refusal("float-quantized", scheme, k, n);
}

std::optional<std::string> hf_refusal(const Scheme& scheme, K k, N n) {
  return fp8_refusal("fp8", scheme, k, n);
}

/// One scale for the matrix, or one per column; else a matrix of scales.
bool is_per_tensor(const Scheme& scheme) {
  return scheme.columns_per_scale == Scheme::kAllColumns;
}
bool is_per_column(const Scheme& scheme, K k) {
  return scheme.columns_per_scale == 1 && scheme.groups(k).value == 1;
}

Shape scale_grid(const Scheme& scheme, K k, N n) {
  return {blocks_in(n.value, scheme.columns_per_scale), scheme.groups(k).value};
}

std::vector<PartSpec> ct_specs(const Scheme& scheme, K k, N n) {
  const Shape shape = is_per_tensor(scheme) ? Shape{1} : scale_grid(scheme, k, n);
  return {{kWeight, DType::F8_E4M3, {n.value, k.value}}, {kScale, scheme.scale_dtype, shape}};
}

std::vector<PartSpec> hf_specs(const Scheme& scheme, K k, N n) {
  const bool grid = !is_per_tensor(scheme) && !is_per_column(scheme, k);
  const Shape shape = is_per_tensor(scheme) ? Shape{} : grid ? scale_grid(scheme, k, n) : Shape{n.value};
  return {{kWeight, DType::F8_E4M3, {n.value, k.value}},
          {grid || scheme.scales_divide ? kScaleInv : kScale, scheme.scale_dtype, shape}};
}

/// A scale tensor as rows along n and columns along k, whatever its rank; nullopt: it is no such thing.
std::optional<Extents> grid_of(const Shape& shape) {
  Extents grid{1, 1};
  if (shape.size() == 4 && shape[1] == 1 && shape[3] == 1) {  // ModelOpt's FP8_PB_WO
    grid = {shape[0], shape[2]};
  } else if (shape.size() <= 2) {
    if (!shape.empty()) grid.rows = shape[0];
    if (shape.size() == 2) grid.cols = shape[1];
  } else {
    return std::nullopt;
  }
  return grid.rows < 1 || grid.cols < 1 ? std::nullopt : std::optional{grid};
}

/// The block size that cuts `extent` into so many: the claimed one, the usual one, a power of two (only one
/// does if there are several blocks), an equal share. nullopt: none.
std::optional<std::int64_t> block_size(std::int64_t extent, std::int64_t blocks,
                                       std::optional<std::int64_t> claimed) {
  const auto cuts = [&](std::int64_t size) { return size > 0 && blocks_in(extent, size) == blocks; };
  constexpr std::int64_t kLargest = std::int64_t{1} << 31;
  if (claimed && *claimed <= kLargest && cuts(*claimed)) return claimed;
  if (cuts(kUsualBlock)) return kUsualBlock;
  for (std::int64_t size = 1; size <= kLargest; size *= 2)
    if (cuts(size)) return size;
  if (blocks <= extent && extent % blocks == 0) return extent / blocks;
  return std::nullopt;
}

/// What the scales' shape says of the scheme. The claimed block size decides where several cut the matrix
/// into as many blocks, which partial blocks at the edges make possible.
void read_shape(const Shape& shape, K k, N n, const Claims& claims, Scheme& scheme) {
  const auto grid = grid_of(shape);
  const auto fail = [&] {
    throw Error{ErrorKind::bad_input, fmt::format("scales of shape {} do not fit a weight of shape ({}, {})",
                                                  to_string(shape), n.value, k.value)};
  };
  if (!grid) fail();
  scheme.group_size.reset();
  const bool one = grid->rows == 1 && grid->cols == 1,
             in_usual = k.value <= kUsualBlock && n.value <= kUsualBlock;
  const bool in_claimed = claims.block_columns && claims.group_size && n.value <= *claims.block_columns &&
                          k.value <= *claims.group_size;
  const bool per_column = claims.group_size == -1;
  if (one && !(shape.size() >= 2 && (in_claimed || (in_usual && !per_column)))) {
    scheme.columns_per_scale = n.value == 1 && per_column ? 1 : Scheme::kAllColumns;
  } else if (grid->rows == n.value && grid->cols == 1 && !one) {
    scheme.columns_per_scale = 1;
  } else {
    if (shape.size() < 2) fail();
    const auto columns = block_size(n.value, grid->rows, claims.block_columns);
    const auto rows = block_size(k.value, grid->cols, claims.group_size);
    if (!columns || !rows) fail();
    scheme.columns_per_scale = *columns;
    scheme.group_size = GroupSize{*rows};
  }
}

/// Where the scales of such a matrix stand in a tensor of this shape. Throws Error{bad_input} if they do not.
ScaleGrid place_in(const Shape& shape, const Geometry& geometry) {
  const Scheme& scheme = geometry.scheme;
  const K k = geometry.k;
  const N n = geometry.n;
  const auto grid = grid_of(shape);
  const auto fits = [&](std::int64_t per) { return blocks_in(n.value, per) == grid->rows; };
  if (grid && grid->cols == scheme.groups(k).value) {
    if (grid->rows == 1 && grid->cols == 1) return {1, 1, ScaleOrder::plain, Scheme::kAllColumns};
    if (grid->rows == n.value) return {1, grid->cols, ScaleOrder::plain, 1};
    if (scheme.columns_per_scale > 1 && fits(scheme.columns_per_scale))
      return {1, grid->cols, ScaleOrder::plain, scheme.columns_per_scale};
  }
  throw Error{ErrorKind::bad_input, fmt::format("scales of shape {} are none of {} for a weight of shape "
                                                "({}, {})",
                                                to_string(shape), to_string(scheme), n.value, k.value)};
}

bool is_other_float8(DType dtype) {
  return dtype == DType::F8_E5M2 || dtype == DType::F8_E4M3FNUZ || dtype == DType::F8_E5M2FNUZ;
}

template <Dialect kDialect>
std::optional<Geometry> recognize(const PartViews& parts, const Claims& claims) {
  const auto weight = dtype_of(parts, kWeight);
  const bool inverse = has_part(parts, kScaleInv);
  const char* suffix = inverse ? kScaleInv : kScale;
  const auto scale_dtype = dtype_of(parts, suffix);
  if (!weight || !scale_dtype || (*weight != DType::F8_E4M3 && !is_other_float8(*weight)))
    return std::nullopt;
  const bool hf = inverse || claims.method == "fp8" || claims.method == "modelopt";
  if (hf != (kDialect == Dialect::fp8)) return std::nullopt;
  if (is_other_float8(*weight))
    throw Error{
        ErrorKind::unsupported,
        fmt::format("weight is {}; the only 8-bit float that is read is F8_E4M3, and the bytes of one "
                    "mean other numbers in the other",
                    info(*weight).name)};
  if (*scale_dtype == DType::U8 || *scale_dtype == DType::F8_E8M0) {
    if (!inverse) return std::nullopt;  // MXFP8
    throw Error{ErrorKind::unsupported,
                fmt::format("{} is {}; F32, BF16 and F16 scales are read", suffix, info(*scale_dtype).name)};
  }
  refuse_others(parts, {kWeight, suffix});

  const Extents extents = matrix_extents(parts, kWeight);
  Geometry found{{kE4M3, std::nullopt, *scale_dtype}, K{extents.cols}, N{extents.rows}};
  found.scheme.scales_divide = inverse && claims.scales_are_inverse;
  refuse(kDialect == Dialect::fp8 ? hf_refusal : ct_refusal, found.scheme, found.k, found.n);
  const Shape& shape = part_of(parts, suffix).shape;
  within(suffix, [&] { read_shape(shape, found.k, found.n, claims, found.scheme); });
  require(parts, std::vector<PartSpec>{{kWeight, DType::F8_E4M3, {extents.rows, extents.cols}},
                                       {suffix, *scale_dtype, shape}});
  return found;
}

/// A quotient by 0 is no weight.
void require_divisors(const MatrixF& scales, ColumnWindow window) {
  for (Eigen::Index n = 0; n < scales.cols(); ++n)
    for (Eigen::Index group = 0; group < scales.rows(); ++group)
      if (scales(group, n) == 0)
        throw Error{ErrorKind::bad_input,
                    fmt::format("the scale of group {}, column {} is 0, and the weights "
                                "are divided by it",
                                group, window.first + n)};
}

void read(const PartViews& parts, const Geometry& geometry, QuantizedMatrix& out) {
  const ColumnWindow window = window_of(out, geometry);
  within(kWeight, [&] { read_e4m3(part_of(parts, kWeight).data, window, out.codes); });
  const char* suffix = has_part(parts, kScaleInv) ? kScaleInv : kScale;
  within(suffix, [&] {
    const TensorView& scales = part_of(parts, suffix);
    load_scales(scales.data, scales.dtype, place_in(scales.shape, geometry), window, out.scales);
    if (geometry.scheme.scales_divide) require_divisors(out.scales, window);
  });
}

void write(const QuantizedMatrix& q, const Geometry& geometry, const PartBuffers& out) {
  const ColumnWindow window = window_of(q, geometry);
  within(kWeight, [&] { write_e4m3(q.codes, window, part_of(out, kWeight).data); });
  const char* suffix = out.contains(kScaleInv) ? kScaleInv : kScale;
  within(suffix, [&] {
    const PartBuffer& scales = part_of(out, suffix);
    if (geometry.scheme.scales_divide) require_divisors(q.scales, window);
    store_scales(q.scales, scales.dtype, place_in(scales.shape, geometry), window, scales.data);
  });
}

/// What the configuration says of all modules.
nlohmann::json scheme_fields(const Scheme& scheme) {
  const bool per_tensor = is_per_tensor(scheme),
             per_column = scheme.columns_per_scale == 1 && !scheme.group_size;
  if (per_column && !scheme.scales_divide)
    return {{"quant_method", "modelopt"}, {"quant_algo", "FP8_PER_CHANNEL_PER_TOKEN"}};
  nlohmann::json fields{{"quant_method", "fp8"}, {"fmt", "e4m3"}, {"activation_scheme", "dynamic"}};
  if (!per_tensor && !per_column)
    fields["weight_block_size"] = {scheme.columns_per_scale,
                                   scheme.group_size ? scheme.group_size->value : kUsualBlock};
  if (scheme.scales_divide) {
    fields["weight_scale_semantics"] = "inverse";
    fields["weight_scale_method"] = per_tensor ? "tensor" : per_column ? "row" : "block";
  }
  return fields;
}

nlohmann::json fp8_config(const CheckpointSchemes& schemes) {
  nlohmann::json config = scheme_fields(schemes.common);
  for (const auto& [module, scheme] : real_exceptions(schemes))
    if (scheme_fields(scheme) != config)
      throw Error{ErrorKind::unsupported,
                  fmt::format("fp8's configuration has one scheme for all modules: {}; {} has {}; use format "
                              "compressed-tensors",
                              to_string(schemes.common), module, to_string(scheme))};
  if (config.at("quant_method") == "modelopt") {
    config["ignore"] = schemes.unquantized;
  } else {  // engines look under the first name, Hugging Face's library under the second
    config["ignored_layers"] = schemes.unquantized;
    config["modules_to_not_convert"] = schemes.unquantized;
  }
  return config;
}

}  // namespace

WeightFormat ct_float_quantized() {
  return {.name = "ct-float-quantized",
          .family = "compressed-tensors",
          .summary = "compressed-tensors' float-quantized: FP8 (E4M3) with float scales",
          .suffixes = {kWeight, kScale},
          .recognize = recognize<Dialect::compressed_tensors>,
          .read = read,
          .refusal = ct_refusal,
          .specs = ct_specs,
          .write = write,
          .quantization_config = compressed_tensors_config};
}

WeightFormat fp8() {
  return {.name = "fp8",
          .family = "fp8",
          .summary = "FP8 (E4M3) of DeepSeek, Hugging Face and ModelOpt: blocks, columns or one scale",
          .suffixes = {kWeight, kScaleInv},
          .recognize = recognize<Dialect::fp8>,
          .read = read,
          .refusal = hf_refusal,
          .specs = hf_specs,
          .write = write,
          .quantization_config = fp8_config};
}

}  // namespace mpk::formats
