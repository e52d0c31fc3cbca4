// gpu.hpp for a build without CUDA: everything links, nothing runs, and the reason is said once.

#include "kernels/bench.hpp"
#include "kernels/gpu.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

[[noreturn]] void no_gpu() {
  throw Error{ErrorKind::device, "no GPU: " + gpu_status().reason};
}

}  // namespace

struct GpuLinear::Impl {};

const GpuStatus& gpu_status() {
  static const GpuStatus status{false, "", 0, "this marlin-pack was built without CUDA"};
  return status;
}

GpuLinear::GpuLinear(const LayerShape&, const LayerTensors&) {
  no_gpu();
}
GpuLinear::~GpuLinear() = default;
GpuLinear::GpuLinear(GpuLinear&&) noexcept = default;
GpuLinear& GpuLinear::operator=(GpuLinear&&) noexcept = default;

std::vector<std::uint16_t> GpuLinear::multiply(std::span<const std::uint16_t>, M,
                                               std::optional<GemmFamily>) const {
  no_gpu();
}
std::vector<std::uint16_t> GpuLinear::multiply(const QuantizedRows&, M, std::optional<GemmFamily>) const {
  no_gpu();
}
std::vector<std::uint16_t> GpuLinear::dequantize() const {
  no_gpu();
}

GpuReference gpu_reference(std::span<const float>, K, N, std::span<const std::uint16_t>, M, Float) {
  no_gpu();
}
GpuReference gpu_reference(std::span<const float>, K, N, const QuantizedRows&, M, Activation8) {
  no_gpu();
}

BenchReport run_bench(const BenchJob&, const std::function<void(const std::string&)>&) {
  no_gpu();
}

}  // namespace mpk
