#include "verify/synthetic.hpp"

#include <cmath>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/float_bits.hpp"
#include "verify/random_bits.hpp"

namespace mpk {

SyntheticLayer synthetic_layer(const WeightFormat& format, const Scheme& scheme, K k, N n,
                               std::uint64_t seed) {
  if (const auto reason = format.refusal(scheme, k, n)) throw Error{ErrorKind::unsupported, *reason};
  QuantizedMatrix q = make_matrix(scheme, k, n);
  const auto draw = [seed](std::int64_t i) {
    return random_bits(seed ^ random_bits(static_cast<std::uint64_t>(i)));
  };
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < q.codes.size(); ++i)
    q.codes.data()[i] = static_cast<std::uint8_t>(draw(i) >> (64 - scheme.type.bits));
  for (std::int64_t i = 0; i < q.scales.size(); ++i) {  // 2^-9 .. 2^-5, where a model's scales lie
    const double scale = std::exp2(-9.0 + 4.0 * random_unit(draw(-1 - i)));
    std::byte bytes[4];
    store_rounded(static_cast<float>(scale), scheme.scale_dtype, bytes);
    q.scales.data()[i] = load_float(bytes, scheme.scale_dtype);
  }
  for (std::int64_t i = 0; i < q.zero_points.size(); ++i) {
    const auto steps = draw(i ^ (std::int64_t{1} << 40)) % static_cast<std::uint64_t>(scheme.type.max_code());
    q.zero_points.data()[i] = static_cast<std::int16_t>(1 + steps);  // every format has 1 .. 2^bits - 1
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
