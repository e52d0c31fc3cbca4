#include "verify/synthetic.hpp"

#include <cmath>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/float16.hpp"
#include "verify/random_bits.hpp"

namespace mpk {

SyntheticLayer synthetic_layer(const WeightFormat& format, const Scheme& scheme, K k, N n,
                               std::uint64_t seed) {
  if (const auto reason = format.refusal(scheme, k, n)) throw Error{ErrorKind::unsupported, *reason};
  QuantizedMatrix q{scheme, Codes(k.value, n.value), MatrixF(scheme.groups(k).value, n.value)};
  const auto draw = [seed](std::int64_t i) {
    return random_bits(seed ^ random_bits(static_cast<std::uint64_t>(i)));
  };
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < q.codes.size(); ++i)
    q.codes.data()[i] = static_cast<std::uint8_t>(draw(i) >> (64 - scheme.type.bits));
  for (std::int64_t i = 0; i < q.scales.size(); ++i) {  // 2^-9 .. 2^-5, where a model's scales lie
    const double scale = std::exp2(-9.0 + 4.0 * random_unit(draw(-1 - i)));
    q.scales.data()[i] = f16_to_float(float_to_f16(static_cast<float>(scale)));
  }
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
