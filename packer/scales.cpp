#include "packer/scales.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/float16.hpp"
#include "packer/format/layouts.hpp"

namespace mpk {
namespace {

template <DigitMap kMap>
void gather_chunks(std::vector<Eigen::Index>& columns) {
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const std::size_t inside = i % kMap.size();
    columns[i] = static_cast<Eigen::Index>(i - inside) + source<kMap>(static_cast<int>(inside));
  }
}

/// columns[i] = the source column that stands at position i.
std::vector<Eigen::Index> columns_in(ScaleOrder order, std::int64_t n) {
  if (n % chunk_of(order) != 0)
    throw Error{
        ErrorKind::unsupported,
        fmt::format("scales of N = {} columns have no Marlin order; multiples of {} do", n, chunk_of(order))};
  std::vector<Eigen::Index> columns(static_cast<std::size_t>(n));
  switch (order) {
    case ScaleOrder::plain:
      std::iota(columns.begin(), columns.end(), Eigen::Index{0});
      break;
    case ScaleOrder::grouped:
      gather_chunks<kMarlinScalesGrouped>(columns);
      break;
    case ScaleOrder::single:
      gather_chunks<kMarlinScalesSingle>(columns);
      break;
  }
  return columns;
}

void require_16_bit(DType dtype) {
  if (dtype != DType::F16 && dtype != DType::BF16)
    throw Error{ErrorKind::unsupported, fmt::format("scales cannot be {}; F16 or BF16", info(dtype).name)};
}

void require_size(std::size_t bytes, std::int64_t groups, std::int64_t n) {
  if (bytes != 2 * static_cast<std::size_t>(groups) * static_cast<std::size_t>(n))
    throw Error{ErrorKind::bad_input,
                fmt::format("{} bytes are no ({}, {}) 16-bit scales", bytes, groups, n)};
}

}  // namespace

void store_scales(const MatrixF& scales, DType dtype, ScaleOrder order, std::span<std::byte> out) {
  require_16_bit(dtype);
  require_size(out.size(), scales.rows(), scales.cols());
  const auto columns = columns_in(order, scales.cols());
  std::byte* next = out.data();
  for (Eigen::Index group = 0; group < scales.rows(); ++group)
    for (Eigen::Index n : columns) {
      const float scale = scales(group, n);
      const std::uint16_t bits = dtype == DType::F16 ? float_to_f16(scale) : float_to_bf16(scale);
      const float back = dtype == DType::F16 ? f16_to_float(bits) : bf16_to_float(bits);
      if (!std::isfinite(scale) || std::bit_cast<std::uint32_t>(back) != std::bit_cast<std::uint32_t>(scale))
        throw Error{ErrorKind::bad_input,
                    fmt::format("the scale of group {}, column {} is {}, no finite {} number", group, n,
                                scale, info(dtype).name)};
      std::memcpy(next, &bits, sizeof bits);
      next += sizeof bits;
    }
}

MatrixF load_scales(std::span<const std::byte> bytes, Groups groups, N n, DType dtype, ScaleOrder order) {
  require_16_bit(dtype);
  require_size(bytes.size(), groups.value, n.value);
  const auto columns = columns_in(order, n.value);
  MatrixF scales(groups.value, n.value);
  const std::byte* next = bytes.data();
  for (Eigen::Index group = 0; group < scales.rows(); ++group)
    for (Eigen::Index column : columns) {
      std::uint16_t bits;
      std::memcpy(&bits, next, sizeof bits);
      next += sizeof bits;
      const float scale = dtype == DType::F16 ? f16_to_float(bits) : bf16_to_float(bits);
      if (!std::isfinite(scale))
        throw Error{
            ErrorKind::bad_input,
            fmt::format("the scale of group {}, column {} is not finite ({:04x})", group, column, bits)};
      scales(group, column) = scale;
    }
  return scales;
}

}  // namespace mpk
