// The tensors of one module, through every row of the table: recognized, read whole and in slabs, written
// back.
//
// The input says which tensors there are, byte by byte (tests/fuzz/make_corpus.py writes the same):
//   row      which row of rows() is also asked by itself, modulo their number
//   claims   bit 0: method and dialect follow; bit 1: bits, group_size (16 bits), block_columns (16 bits);
//            bits 2, 3: symmetric, act_order, as bits 5, 6 say; bit 4: scales_are_inverse; bit 7: activations
//            follow
//   kind     0: tensors follow; else the row's own specs for a scheme that follows, then changes to them
//   tensors  their number, then for each: suffix, dtype, rank, rank extents of 16 bits, how it is filled, a
//   byte pool     what is left: the data, repeated as needed

#include "packer/formats/formats.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "packer/format/float_bits.hpp"
#include "packer/io/safetensors.hpp"
#include "packer/weight_format.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace mpk;

namespace {

constexpr std::uint64_t kMaxBytes = 1 << 18;               // of all tensors
constexpr std::int64_t kMaxCodes = std::int64_t{1} << 20;  // worth reading

constexpr std::array kMethods{"",    "gptq",     "awq",   "compressed-tensors", "fp8",
                              "hqq", "modelopt", "mxfp4", "marlin-pack"};
constexpr std::array kDialects{"",
                               "gptq",
                               "gptq_v2",
                               "gptq_p",
                               "marlin",
                               "marlin_24",
                               "gemm",
                               "gemv",
                               "gemv_fast",
                               "pack-quantized",
                               "int-quantized",
                               "float-quantized",
                               "naive-quantized",
                               "nvfp4-pack-quantized",
                               "mxfp4-pack-quantized",
                               "mxfp8-quantized",
                               "marlin-24",
                               "nvfp4",
                               "fp8",
                               "mxfp8",
                               "axis0",
                               "axis1",
                               "bitblas",
                               "marlin-a8"};
constexpr std::array kActivations{DType::F16, DType::BF16, DType::F8_E4M3, DType::I8};
/// New ones at the end: inputs number them. Those of the table that are missing follow.
const std::vector<std::string>& suffixes() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list{"qweight",
                                  "qzeros",
                                  "scales",
                                  "g_idx",
                                  "B",
                                  "s",
                                  "B_24",
                                  "B_meta",
                                  "weight_packed",
                                  "weight_scale",
                                  "weight_shape",
                                  "weight_zero_point",
                                  "weight_g_idx",
                                  "weight",
                                  "weight_scale_inv",
                                  "weight_scale_2",
                                  "weight_global_scale",
                                  "input_scale",
                                  "input_global_scale",
                                  "meta",
                                  "scale_packed",
                                  "blocks",
                                  "W_q",
                                  "scale",
                                  "zero",
                                  "nbits",
                                  "group_size",
                                  "axis",
                                  "shape",
                                  "packing",
                                  "view_as_float",
                                  "bias",
                                  "perm",
                                  "pre_quant_scale",
                                  "zeros",
                                  "workspace"};
    for (const WeightFormat& format : weight_formats())
      for (const std::string_view suffix : format.suffixes)
        if (std::ranges::find(list, suffix) == list.end()) list.emplace_back(suffix);
    return list;
  }();
  return names;
}

/// The table in an order of its own, which its inputs keep when the table's changes: new rows at the end.
const std::vector<const WeightFormat*>& rows() {
  static const std::vector<const WeightFormat*> list = [] {
    std::vector<const WeightFormat*> found;
    for (const char* name : {"awq-marlin",
                             "marlin",
                             "gptq",
                             "gptq-v2",
                             "marlin-original",
                             "ct-float-quantized",
                             "fp8",
                             "ct-nvfp4-pack-quantized",
                             "modelopt-nvfp4",
                             "ct-mxfp4-pack-quantized",
                             "ct-mxfp8-quantized",
                             "gpt-oss-mxfp4",
                             "awq",
                             "awq-gemv",
                             "awq-gemv-fast",
                             "ct-pack-quantized",
                             "ct-int-quantized",
                             "hqq",
                             "marlin-a8",
                             "marlin-24",
                             "ct-marlin-24"})
      if (const WeightFormat* row = weight_format_named(name)) found.push_back(row);
    for (const WeightFormat& row : weight_formats())
      if (std::ranges::find(found, &row) == found.end()) found.push_back(&row);
    return found;
  }();
  return list;
}

/// Bytes from the front; zeros when they are used up.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_{data, size} {}
  unsigned byte() {
    if (rest_.empty()) return 0;
    const unsigned value = rest_.front();
    rest_ = rest_.subspan(1);
    return value;
  }
  std::int64_t half() {
    const unsigned low = byte();
    return low | byte() << 8;
  }
  template <class List>
  const auto& pick(const List& list) {
    return list[byte() % std::size(list)];
  }
  std::span<const std::uint8_t> rest() const { return rest_; }

 private:
  std::span<const std::uint8_t> rest_;
};

struct Drawn {
  PartSpec spec;
  unsigned fill = 0, value = 0;
};

Claims draw_claims(Input& in) {
  Claims claims;
  const unsigned bits = in.byte();
  if (bits & 1) {
    claims.method = in.pick(kMethods);
    claims.dialect = in.pick(kDialects);
  }
  if (bits & 2) {
    claims.bits = 1 + static_cast<int>(in.byte() % 32);
    claims.group_size = static_cast<std::int16_t>(in.half());
    if (*claims.group_size < 1) claims.group_size = -1;
    if (const std::int64_t columns = in.half(); columns > 0) claims.block_columns = columns;
  }
  if (bits & 4) claims.symmetric = (bits & 32) != 0;
  if (bits & 8) claims.act_order = (bits & 64) != 0;
  claims.scales_are_inverse = (bits & 16) != 0;
  if (bits & 128) claims.activations = in.pick(kActivations);
  return claims;
}

Drawn draw_tensor(Input& in) {
  Drawn drawn;
  drawn.spec.suffix = in.pick(suffixes());
  drawn.spec.dtype = in.pick(kDTypes).dtype;
  drawn.spec.shape.resize(in.byte() % 5);
  for (std::int64_t& extent : drawn.spec.shape) extent = in.half();
  drawn.fill = in.byte();
  drawn.value = in.byte();
  return drawn;
}

struct DrawnScheme {
  Scheme scheme;
  K k{0};
  N n{0};
};

DrawnScheme draw_scheme(Input& in) {
  constexpr std::array kDTypesOfScales{DType::F16, DType::BF16, DType::F32, DType::F8_E4M3, DType::F8_E8M0};
  constexpr std::array<std::int64_t, 4> kColumnsPerScale{1, 128, Scheme::kAllColumns, 64};
  DrawnScheme drawn;
  Scheme& scheme = drawn.scheme;
  scheme.type = in.pick(kScalarTypes).type;
  if (const unsigned size = in.byte(); size > 0) scheme.group_size = GroupSize{size};
  scheme.scale_dtype = in.pick(kDTypesOfScales);
  scheme.zero_points = static_cast<ZeroPoints>(in.byte() % 3);
  scheme.act_order = in.byte() % 2 != 0;
  scheme.global_scale = static_cast<GlobalScale>(in.byte() % 3);
  scheme.columns_per_scale = in.pick(kColumnsPerScale);
  const unsigned rare = in.byte();
  scheme.scales_divide = rare % 2 != 0;
  if (rare >= 2) scheme.activations = kActivations[rare / 2 % kActivations.size()];
  drawn.k = K{in.byte() * 8};
  drawn.n = N{in.byte() * 8};
  return drawn;
}

std::vector<Drawn> draw_specs(const WeightFormat& row, Input& in) {
  const auto [scheme, k, n] = draw_scheme(in);
  std::vector<Drawn> drawn;
  if (!row.writes() || row.refusal(scheme, k, n)) return drawn;
  for (const PartSpec& spec : row.specs(scheme, k, n)) drawn.push_back({spec, in.byte(), in.byte()});
  return drawn;
}

/// A matrix that a file could hold, of whatever bytes there are.
QuantizedMatrix matrix_of(const DrawnScheme& drawn, const WeightFormat& row, bool wild_scales,
                          std::span<const std::uint8_t> pool) {
  const Scheme& scheme = drawn.scheme;
  std::size_t at = 0;
  const auto next = [&]() -> unsigned { return pool.empty() ? 1u : pool[at++ % pool.size()]; };
  QuantizedMatrix q = make_matrix(scheme, drawn.k, drawn.n);
  const auto rows = scheme.rows_per_group(drawn.k);
  for (std::size_t i = 0; i < q.g_idx.size(); ++i)
    q.g_idx[i] = static_cast<std::int32_t>(static_cast<std::int64_t>(i) * 5 % drawn.k.value / rows);
  for (Eigen::Index i = 0; i < q.zero_points.size(); ++i)
    q.zero_points.data()[i] =
        static_cast<std::int16_t>(row.lowest_zero + static_cast<int>(next() & scheme.type.max_code()));
  for (Eigen::Index i = 0; i < q.codes.size(); ++i) {
    auto code = static_cast<std::uint8_t>(next() & scheme.type.max_code());
    if (scheme.type == kE4M3 && (code & 0x7f) == 0x7f) code ^= 1;  // NaN
    const auto zero = static_cast<std::uint8_t>(scheme.type.bias);
    q.codes.data()[i] = row.only_24 && i % 4 >= 2 ? zero : code;
  }
  const auto number = [&]() -> float {
    if (wild_scales) {
      std::array<std::byte, 4> bytes;
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(next());
      bytes[bytes_of(scheme.scale_dtype) - 1] &= std::byte{0xbf};  // no exponent of ones
      return load_float(bytes.data(), scheme.scale_dtype);
    }
    const unsigned byte = next();
    const float mantissa = scheme.scale_dtype == DType::F8_E8M0 ? 0 : static_cast<float>(byte & 7) / 8;
    return std::ldexp(1 + mantissa, -static_cast<int>(byte >> 6));
  };
  const auto per = scheme.columns_per_scale == Scheme::kAllColumns ? drawn.n.value : scheme.columns_per_scale;
  for (Eigen::Index col = 0; col < q.scales.cols(); ++col)
    for (Eigen::Index group = 0; group < q.scales.rows(); ++group)
      q.scales(group, col) = col % per == 0 ? number() : q.scales(group, col - 1);
  for (Eigen::Index i = 0; i < q.float_zeros.size(); ++i) q.float_zeros.data()[i] = number();
  if (scheme.global_scale != GlobalScale::none) q.global_scale = 0.75f;
  return q;
}

/// Other dtypes, extents and names, perhaps.
void change(std::vector<Part>& parts, Input& in) {
  for (unsigned changes = in.byte() % 3; changes > 0 && !parts.empty(); --changes) {
    Part& part = parts[in.byte() % parts.size()];
    switch (in.byte() % 5) {
      case 0:
        part.tensor.dtype = in.pick(kDTypes).dtype;
        break;
      case 1:
        if (Shape& shape = part.tensor.shape; !shape.empty()) shape[in.byte() % shape.size()] = in.half();
        break;
      case 2:
        part.suffix = in.pick(suffixes());
        break;
      case 3:
        part.tensor.shape.push_back(1);
        break;
      default:
        if (std::vector<std::byte>& data = part.tensor.data; !data.empty()) {
          const auto at = static_cast<std::size_t>(in.half()) % data.size();
          data[at] = static_cast<std::byte>(in.byte());
        }
        break;
    }
  }
}

std::vector<std::byte> filled(const Drawn& drawn, std::uint64_t bytes, std::span<const std::uint8_t> pool) {
  std::vector<std::byte> data(bytes);
  const std::size_t size = std::max<std::size_t>(bytes_of(drawn.spec.dtype), 1);
  const auto from_pool = [&](std::size_t i) {
    return pool.empty() ? std::byte{0} : static_cast<std::byte>(pool[(i + drawn.value) % pool.size()]);
  };
  for (std::size_t i = 0; i < data.size(); ++i) switch (drawn.fill % 5) {
      case 0:  // anything
        data[i] = from_pool(i);
        break;
      case 1:
        data[i] = static_cast<std::byte>(drawn.value);
        break;
      case 2:  // finite numbers: no exponent is all ones
        data[i] = from_pool(i);
        if (i % size == size - 1) data[i] &= std::byte{0xbf};
        break;
      case 3: {  // runs, as of g_idx
        const std::uint64_t element = i / size / (drawn.value + 1);
        data[i] = i % size < 8 ? static_cast<std::byte>(element >> (8 * (i % size))) : std::byte{0};
        break;
      }
      default:  // extents, as of weight_shape: the value in eights, and what comes after
        data[i] = i % size == 0 ? static_cast<std::byte>(drawn.value * 8) : std::byte{0};
        if (i % size == 1) data[i] = static_cast<std::byte>(drawn.value >> 5);
        break;
    }
  return data;
}

bool same_bits(const MatrixF& a, const MatrixF& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::equal(a.data(), a.data() + a.size(), b.data(), [](float x, float y) {
           return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
         });
}

void check_values(const QuantizedMatrix& q) {
  fuzz::require(fuzz::succeeds([&] { formats::require_consistent(q); }), "what is read is consistent");
  for (Eigen::Index i = 0; i < q.codes.size(); ++i)
    fuzz::require(q.codes.data()[i] <= q.scheme.type.max_code(), "codes have the type's bits");
  for (Eigen::Index i = 0; i < q.scales.size(); ++i)
    fuzz::require(
        std::isfinite(q.scales.data()[i]) && is_representable(q.scales.data()[i], q.scheme.scale_dtype),
        "scales are finite numbers of their dtype");
  for (Eigen::Index i = 0; i < q.zero_points.size(); ++i)
    fuzz::require(q.zero_points.data()[i] >= 0 && q.zero_points.data()[i] <= q.scheme.type.max_code() + 1,
                  "zero points are in the code's space");
  for (const std::int32_t group : q.g_idx)
    fuzz::require(group >= 0 && group < q.scales.rows(), "rows are in groups that exist");
  dequantize(q);
}

/// A slab is a piece of the whole.
void check_slab(const QuantizedMatrix& whole, const QuantizedMatrix& slab) {
  const Eigen::Index first = slab.first_column, count = slab.codes.cols();
  fuzz::require(slab.codes == whole.codes.middleCols(first, count), "codes of a slab");
  fuzz::require(same_bits(slab.scales, whole.scales.middleCols(first, count)), "scales of a slab");
  if (whole.zero_points.size() > 0)
    fuzz::require(slab.zero_points == whole.zero_points.middleCols(first, count), "zeros of a slab");
  if (whole.float_zeros.size() > 0)
    fuzz::require(same_bits(slab.float_zeros, whole.float_zeros.middleCols(first, count)),
                  "float zeros of a slab");
  fuzz::require(slab.g_idx == whole.g_idx && slab.global_scale == whole.global_scale,
                "what a slab shares with the others");
}

/// `views` as the row writes them from `slabs`, spelled as they are; nothing: it cannot.
std::optional<std::vector<Part>> written(const WeightFormat& row, const Geometry& geometry,
                                         const PartViews& views, std::span<const QuantizedMatrix> slabs) {
  std::vector<Part> parts;
  for (const auto& [suffix, view] : views)
    if (!is_companion(suffix))
      parts.push_back({suffix, {view.dtype, view.shape, std::vector<std::byte>(view.data.size())}});
  const PartBuffers buffers = buffers_of(parts);
  if (!fuzz::succeeds([&] {
        for (const QuantizedMatrix& slab : slabs) row.write(slab, geometry, buffers);
      }))
    return std::nullopt;
  return parts;
}

void check_stored(const StoredMatrix& stored, const PartViews& views) {
  const WeightFormat* row = stored.format;
  const Geometry& geometry = stored.geometry;
  const Scheme& scheme = geometry.scheme;
  const K k = geometry.k;
  const N n = geometry.n;
  fuzz::require(k.value > 0 && n.value > 0, "a geometry has sizes");
  std::int64_t bytes = 0;
  for (const auto& [suffix, view] : views) bytes += std::ssize(view.data);
  fuzz::require(k.value <= kMaxCodes && n.value <= kMaxCodes && k.value * n.value <= 16 * bytes,
                "codes have bytes");
  if (k.value * n.value > kMaxCodes) return;

  QuantizedMatrix whole;
  const bool reads = fuzz::succeeds([&] { whole = read_columns(stored, views, {0, n.value}); });
  std::vector<QuantizedMatrix> slabs;
  bool reads_slabs = true;
  for (std::int64_t first = 0; first < n.value; first += kColumnUnit)
    reads_slabs &= fuzz::succeeds([&] {
      slabs.push_back(read_columns(stored, views, {first, std::min(kColumnUnit, n.value - first)}));
    });
  fuzz::require(reads == reads_slabs, "slabs read as the whole does");
  if (!reads) return;
  check_values(whole);
  for (const QuantizedMatrix& slab : slabs) check_slab(whole, slab);

  if (!row->writes() || row->refusal(scheme, k, n)) return;
  const auto back = written(*row, geometry, views, {&whole, 1});
  const auto back_in_slabs = written(*row, geometry, views, slabs);
  fuzz::require(back.has_value() == back_in_slabs.has_value(), "slabs are written as the whole is");
  if (back)
    for (std::size_t i = 0; i < back->size(); ++i) {
      const Part& part = (*back)[i];
      fuzz::require(std::ranges::equal(part.tensor.data, views.find(part.suffix)->second.data),
                    "what was read is written as it was: " + std::string{row->name} + " " + part.suffix);
      fuzz::require(part.tensor.data == (*back_in_slabs)[i].tensor.data, "slabs make up the whole");
    }
  fuzz::succeeds([&] {
    const std::vector<Part> encoded = row->encode(whole);
    QuantizedMatrix decoded;
    fuzz::require(fuzz::succeeds([&] { decoded = row->decode(views_of(encoded), scheme, k, n); }),
                  "what is encoded is decoded");
    check_slab(whole, decoded);
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input in{data, size};
  const WeightFormat& row = *in.pick(rows());
  const Claims claims = draw_claims(in);
  std::vector<Part> parts;
  if (const unsigned kind = in.byte(); kind >= 2) {
    const DrawnScheme drawn = draw_scheme(in);
    const bool encodes =
        row.writes() && !row.refusal(drawn.scheme, drawn.k, drawn.n) &&
        drawn.k.value * drawn.n.value <= kMaxCodes &&
        fuzz::succeeds([&] { parts = row.encode(matrix_of(drawn, row, kind == 3, in.rest())); });
    if (!encodes) return 0;
  } else {
    std::vector<Drawn> drawn;
    if (kind == 1) {
      drawn = draw_specs(row, in);
    } else {
      for (unsigned count = in.byte() % 10; count > 0; --count) drawn.push_back(draw_tensor(in));
    }
    std::uint64_t total = 0;
    for (const Drawn& one : drawn) {
      std::uint64_t bytes = 0;
      if (!fuzz::succeeds([&] { bytes = tensor_bytes(one.spec.dtype, one.spec.shape); })) return 0;
      if ((total += bytes) > kMaxBytes) return 0;
      parts.push_back({one.spec.suffix, {one.spec.dtype, one.spec.shape, filled(one, bytes, in.rest())}});
    }
  }
  change(parts, in);
  const PartViews views = views_of(parts);

  std::optional<StoredMatrix> stored;
  fuzz::succeeds([&] { stored = recognize(views, claims); });
  if (stored) check_stored(*stored, views);

  if (!row.reads()) return 0;
  PartViews own = views;
  std::erase_if(own, [](const auto& part) { return is_companion(part.first); });
  std::optional<Geometry> geometry;
  fuzz::succeeds([&] { geometry = row.recognize(own, claims); });
  const bool is_known = stored && geometry && stored->format == &row && stored->geometry == *geometry;
  if (geometry && !is_known) check_stored({&row, *geometry}, own);
  return 0;
}
