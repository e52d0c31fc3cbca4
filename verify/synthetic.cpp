#include "verify/synthetic.hpp"

#include <cmath>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/float8.hpp"
#include "packer/format/float_bits.hpp"
#include "verify/random_bits.hpp"

namespace mpk {
namespace {

/// Where a model's scales lie. Bytes of NVFP4 reach from 2^-6 to 448, with a 0 now and then, and without
/// activations to mind also below; a global scale makes up for that.
float random_scale(const Scheme& scheme, std::uint64_t bits) {
  if (scheme.scale_dtype == DType::F8_E8M0) return std::ldexp(1.0f, -9 + static_cast<int>(bits % 5));
  if (scheme.scale_dtype == DType::F8_E4M3) {
    const auto byte = static_cast<std::uint8_t>(bits % 0x7f);
    return byte < 8 && scheme.activations ? 0.0f : e4m3_to_float(byte);
  }
  const double scale = std::exp2(-9.0 + 4.0 * random_unit(bits));  // 2^-9 .. 2^-5
  std::byte bytes[4];
  store_rounded(static_cast<float>(scale), scheme.scale_dtype, bytes);
  return load_float(bytes, scheme.scale_dtype);
}

/// Two positions of every four rows keep their codes.
void prune_24(QuantizedMatrix& q, std::uint64_t seed) {
#pragma omp parallel for schedule(static)
  for (std::int64_t quad = 0; quad < q.codes.size() / 4; ++quad) {
    const std::uint64_t kept = random_bits(seed ^ static_cast<std::uint64_t>(quad));
    for (std::uint64_t j = 0; j < 4; ++j)
      if (j != kept % 4 && j != kept / 4 % 4)
        q.codes.data()[quad * 4 + static_cast<std::int64_t>(j)] =
            static_cast<std::uint8_t>(q.scheme.type.bias);
  }
}

}  // namespace

SyntheticLayer synthetic_layer(const WeightFormat& format, const Scheme& scheme, K k, N n,
                               std::uint64_t seed) {
  if (const auto reason = format.refusal(scheme, k, n)) throw Error{ErrorKind::unsupported, *reason};
  QuantizedMatrix q = make_matrix(scheme, k, n);
  const auto draw = [seed](std::int64_t i) {
    return random_bits(seed ^ random_bits(static_cast<std::uint64_t>(i)));
  };
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < q.codes.size(); ++i) {
    auto code = static_cast<std::uint8_t>(draw(i) >> (64 - scheme.type.bits));
    if (scheme.type == kE4M3 && (code & 0x7f) == 0x7f) code ^= 1;  // no NaN
    q.codes.data()[i] = code;
  }
  if (format.only_24) prune_24(q, draw(std::int64_t{1} << 41));
  const std::int64_t shared =
      scheme.columns_per_scale == Scheme::kAllColumns ? n.value : scheme.columns_per_scale;
  for (std::int64_t col = 0; col < n.value; ++col)
    for (std::int64_t group = 0; group < q.scales.rows(); ++group)
      q.scales(group, col) = random_scale(scheme, draw(-1 - (col / shared * q.scales.rows() + group)));
  if (scheme.global_scale == GlobalScale::multiplies) q.global_scale = 0x1.234568p-14f;
  if (scheme.global_scale == GlobalScale::divides) q.global_scale = 0x1.234568p14f;
  for (std::int64_t i = 0; i < q.zero_points.size(); ++i) {
    const auto steps = draw(i ^ (std::int64_t{1} << 40)) % static_cast<std::uint64_t>(scheme.type.max_code());
    q.zero_points.data()[i] = static_cast<std::int16_t>(1 + steps);  // every format has 1 .. 2^bits - 1
  }
  for (std::int64_t i = 0; i < q.float_zeros.size(); ++i) {  // around the codes, -2 .. 17
    std::byte bytes[4];
    store_rounded(static_cast<float>(-2.0 + 19.0 * random_unit(draw(i ^ (std::int64_t{1} << 42)))),
                  scheme.scale_dtype, bytes);
    q.float_zeros.data()[i] = load_float(bytes, scheme.scale_dtype);
  }
  // Rows dealt out to the groups: as many to each as if they were runs, none of them a run.
  const std::int64_t groups = q.scales.rows();
  for (std::size_t row = 0; row < q.g_idx.size(); ++row)
    q.g_idx[row] = static_cast<std::int32_t>(static_cast<std::int64_t>(row) % groups);
  SyntheticLayer layer;
  layer.record.module = fmt::format("{}x{} {} group {}", k.value, n.value, name_of(scheme.type),
                                    scheme.group_size ? std::to_string(scheme.group_size->value) : "column");
  layer.record.scheme = scheme;
  layer.record.k = k;
  layer.record.n = n;
  layer.record.layout = format.name;
  layer.record.codes_sha256 = sha256_of_codes(q.codes);
  layer.parts = format.encode(q);
  return layer;
}

}  // namespace mpk
