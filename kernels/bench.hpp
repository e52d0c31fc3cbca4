#pragma once
// How fast, beside what the GPU can do: a kernel that only reads the same bytes, an empty kernel, and cuBLAS
// on 16-bit weights, all measured in the same run. Weights rotate through more memory than the L2 cache
// holds, so every launch reads them from device memory, as in a model. The GPU rests before everything that
// is timed, so that times do not depend on what was timed before. Outputs are checked before anything is
// timed. Plain C++; throws Error{device} without a GPU.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kernels/gemm.hpp"

namespace mpk {

struct BenchJob {
  std::vector<LayerShape> layers;
  std::vector<M> rows;
  bool cublas = true;
  std::optional<GemmFamily> family;  ///< nullopt: the fastest
  /// Also time, in less time, every plan whose expected time is at most so many times the chosen one's; 0:
  /// none.
  double plans_up_to = 0;
};

/// One way to compute a product.
struct BenchPlan {
  std::string kernel;  ///< describe(plan)
  double expected_us, graph_us;
};
/// All times in microseconds, medians; in a CUDA graph unless said otherwise.
struct BenchPoint {
  M m;
  std::string kernel;      ///< describe(plan)
  double error = 0;        ///< ||out - exact|| / ||exact|| over the rows that were checked
  double graph_us = 0;     ///< one of many launches in a graph
  double launch_us = 0;    ///< one of many launches from the host, one after the other
  double megahertz = 0;    ///< of the multiprocessors while the graph ran: less than they could where power
                           ///< limits them
  double expected_us = 0;  ///< what the choice of the kernel was made by
  std::optional<double> cublas_us = {};
  std::vector<BenchPlan> plans = {};  ///< those that were asked for
};
struct BenchLayer {
  LayerShape layer;
  std::uint64_t bytes = 0;  ///< of words, scales and zero points
  double floor_us = 0;      ///< to read so many
  std::vector<BenchPoint> points;
};
struct BenchReport {
  std::string gpu;
  int num_sms = 0;
  double empty_us = 0;                ///< an empty kernel
  std::optional<double> peak_tflops;  ///< cuBLAS, 8192 x 8192 x 8192, f16
  std::string cublas;                 ///< the library found, or why there is none
  std::vector<BenchLayer> layers;
};

/// What binds a point, as far as three lower bounds can tell: the largest of them and how close the point
/// comes.
struct BenchLimit {
  const char* name;  ///< "launch", "memory" or "tensor cores"
  double us;         ///< the bound
};
inline BenchLimit limit_of(const BenchReport& report, const BenchLayer& layer, const BenchPoint& point) {
  BenchLimit limit{"launch", report.empty_us};
  if (layer.floor_us > limit.us) limit = {"memory", layer.floor_us};
  if (report.peak_tflops) {
    const double flops = 2.0 * static_cast<double>(point.m.value) * static_cast<double>(layer.layer.k.value) *
                         static_cast<double>(layer.layer.n.value);
    const int rate = layer.layer.activations8 ? 2 : 1;  // tensor cores multiply bytes twice as fast
    const double us = flops / (rate * *report.peak_tflops * 1e6);
    if (us > limit.us) limit = {"tensor cores", us};
  }
  return limit;
}

/// `progress` is told the layer and the rows about to be measured.
BenchReport run_bench(const BenchJob& job, const std::function<void(const std::string&)>& progress);

}  // namespace mpk
