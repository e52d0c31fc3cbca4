#include "cli/pipeline/float_matrix.hpp"

#include <cstring>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/float16.hpp"

namespace mpk {
namespace {

template <class Bits, class Convert>
void convert(std::span<const std::byte> bytes, MatrixF& out, Convert to_float) {
#pragma omp parallel for schedule(static)
  for (Eigen::Index i = 0; i < out.size(); ++i) {
    Bits bits;  // memcpy: a mapped tensor need not be aligned
    std::memcpy(&bits, bytes.data() + static_cast<std::size_t>(i) * sizeof(Bits), sizeof(Bits));
    out.data()[i] = to_float(bits);
  }
}

}  // namespace

MatrixF float_matrix(const TensorView& tensor) {
  if (tensor.shape.size() != 1 && tensor.shape.size() != 2)
    throw Error{ErrorKind::unsupported,
                fmt::format("shape {} is neither a matrix nor a vector", to_string(tensor.shape))};
  const bool vector = tensor.shape.size() == 1;
  MatrixF out(vector ? tensor.shape[0] : tensor.shape[1], vector ? 1 : tensor.shape[0]);
  switch (tensor.dtype) {
    case DType::BF16:
      convert<std::uint16_t>(tensor.data, out, bf16_to_float);
      break;
    case DType::F16:
      convert<std::uint16_t>(tensor.data, out, f16_to_float);
      break;
    case DType::F32:
      convert<float>(tensor.data, out, [](float v) { return v; });
      break;
    case DType::F64:
      convert<double>(tensor.data, out, [](double v) { return static_cast<float>(v); });
      break;
    default:
      throw Error{
          ErrorKind::unsupported,
          fmt::format("{} is not a floating-point weight (BF16, F16, F32 or F64)", info(tensor.dtype).name)};
  }
  return out;
}

}  // namespace mpk
