#pragma once
// What quantize will make of a checkpoint, before any work: schemes, refusals, the tensors of each artifact.

#include <vector>

#include "cli/pipeline/open_model.hpp"
#include "cli/pipeline/quantize_job.hpp"
#include "cli/pipeline/source_plan.hpp"
#include "packer/io/checkpoint_writer.hpp"

namespace mpk {

/// Throws what plan_source throws, and Error{unsupported} if a format cannot hold a layer.
SourcePlan plan_quantize(const QuantizeJob& job, const OpenModel& model);

/// Tensors in the source's name order, a quantized weight replaced by the parts that store it: neighbours
/// stay neighbours, so a layer's tensors share a shard as they did.
std::vector<TensorSpec> output_specs(const WeightFormat& format, const SourcePlan& plan);

}  // namespace mpk
