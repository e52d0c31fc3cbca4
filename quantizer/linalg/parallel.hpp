#pragma once
// A loop over independent pieces of work whose errors climb out of the threads.

#include <cstdint>
#include <exception>

namespace mpk {

/// Runs f(0) .. f(count - 1), each exactly once, on any thread. Results are the same whatever the number of
/// threads as long as no piece reads what another writes. Of several exceptions the one of the lowest index
/// is thrown.
template <class F>
void parallel_for(std::int64_t count, F&& f) {
  std::exception_ptr first;
  std::int64_t first_idx = count;
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t i = 0; i < count; ++i) {
    try {
      f(i);
    } catch (...) {
#pragma omp critical(mpk_parallel_for)
      if (i < first_idx) {
        first_idx = i;
        first = std::current_exception();
      }
    }
  }
  if (first) std::rethrow_exception(first);
}

/// The same over pieces of `step` indices: f(begin, end), the last one possibly shorter.
template <class F>
void parallel_for_chunks(std::int64_t extent, std::int64_t step, F&& f) {
  parallel_for((extent + step - 1) / step, [&](std::int64_t chunk) {
    const std::int64_t begin = chunk * step;
    f(begin, begin + step < extent ? begin + step : extent);
  });
}

}  // namespace mpk
