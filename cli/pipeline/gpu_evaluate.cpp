#include "cli/pipeline/gpu_evaluate.hpp"

#include <memory>

#include "cli/pipeline/gpu_float.hpp"
#include "kernels/gpu.hpp"
#include "model/cuda/gpu_evaluation.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

bool is_float(DType dtype) {
  return dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16;
}

/// Floats as they are stored, everything else decoded; a decoded tensor lives until the next one.
TensorSource tensors_of(const OpenModel& model) {
  return [&model, decoded = std::make_shared<MatrixF>()](const std::string& name) -> TensorView {
    if (model.checkpoint.contains(name))
      if (const TensorView tensor = model.checkpoint.tensor(name); is_float(tensor.dtype)) return tensor;
    *decoded = model.weights->load(name);
    const Shape shape =
        decoded->cols() == 1 ? Shape{decoded->rows()} : Shape{decoded->cols(), decoded->rows()};
    return {DType::F32, shape,
            std::as_bytes(std::span{decoded->data(), static_cast<std::size_t>(decoded->size())})};
  };
}

}  // namespace

std::string gpu_evaluation_refusal(const DecoderConfig& config) {
  if (!gpu_status().usable) return gpu_status().reason;
  if (std::string reason = gpu_refusal(config); !reason.empty()) return reason;
  try {
    const Stream stream;
    const Blas blas{stream};
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

Comparison gpu_evaluate(const OpenModel& model, const OpenModel* reference,
                        std::span<const std::int32_t> tokens, std::int64_t length, GpuCompute compute,
                        const std::function<void(std::int64_t done, std::int64_t total)>& progress) {
  const GpuEvaluationModel own{model.config, tensors_of(model)};
  if (!reference) return {gpu_perplexity(own, tokens, length, gpu_float(compute), progress), {}, {}};
  return gpu_compare(own, {reference->config, tensors_of(*reference)}, tokens, length, gpu_float(compute),
                     progress);
}

}  // namespace mpk
