#include "quantizer/linalg/blas_kernels.hpp"

#include <cblas.h>

namespace mpk {

CpuFeatures cpu_features() {
#if defined(__x86_64__)
  return {.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"),
          .avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
                    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl")};
#else
  return {};
#endif
}

std::string blas_kernels() {
  return openblas_get_corename();
}

std::optional<std::string> better_blas_kernels(std::string_view picked, CpuFeatures cpu) {
  if (picked != "Prescott") return std::nullopt;
  if (cpu.avx512) return "SkylakeX";
  if (cpu.avx2) return "Haswell";
  return std::nullopt;
}

}  // namespace mpk
