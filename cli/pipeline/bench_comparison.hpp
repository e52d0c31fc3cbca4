#pragma once
// What a bench is held against: the times that other kernels take for the same products on the same kind of
// GPU, and goals. A file of them:
//
//   {"label": "where these come from",
//    "rows": [{"k": 4096, "n": 4096, "m": 1, "type": "u4b8", "us": 8.7, "name": "vLLM 0.33 Marlin"}, ...]}
//
// A row may also say "activations" ("f16" if it does not; of a type as "u4b8-int8": its outputs) and
// "group_size" (128; 16 for nvfp4, 32 for mxfp4; -1: one scale per column, as with int8). A product is only
// held against rows that agree with it in all of these.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kernels/bench.hpp"

namespace mpk {

struct ComparisonTime {
  std::string name;  ///< whose
  LayerShape layer;
  M m;
  double us = 0;
};
struct Comparison {
  std::vector<std::string> labels;  ///< one per file
  std::vector<ComparisonTime> times;
};

/// Throws Error{bad_input} that names the file and the row.
Comparison read_comparison(const std::vector<std::filesystem::path>& files);

/// The least of the times for this product; nullptr where there is none.
const ComparisonTime* best_time(const Comparison& comparison, const LayerShape& layer, M m);

/// How many products take no longer than they do in `name`'s times.
struct ComparisonScore {
  std::string name;
  int met = 0;
  int of = 0;
};
/// First against the best time of each product, then against each name in the order of the files.
std::vector<ComparisonScore> scores(const BenchReport& report, const Comparison& comparison);

/// A ratio of two times of one layer, and where it was found.
struct BenchRatio {
  const BenchLayer* layer = nullptr;
  M m{0};
  double ratio = 0;
};
/// The layer whose time grows most from `from` to `to` rows; nullopt if none was measured at both.
std::optional<BenchRatio> largest_step(const BenchReport& report, M from, M to);
/// The point, of `from` rows or more, that takes longest in units of cuBLAS's time; nullopt if there is none.
std::optional<BenchRatio> slowest_beside_cublas(const BenchReport& report, M from);

}  // namespace mpk
