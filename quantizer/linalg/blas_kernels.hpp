#pragma once
// Which of its kernels OpenBLAS runs. It picks them by the CPU's model while it is loaded, and takes those of
// a Pentium 4 ("Prescott") for a model that it does not know: one that is newer than it is.

#include <optional>
#include <string>
#include <string_view>

namespace mpk {

/// What decides between OpenBLAS's kernels.
struct CpuFeatures {
  bool avx2, avx512;  ///< with FMA; F, CD, BW, DQ and VL
};
CpuFeatures cpu_features();

/// The name of the kernels that OpenBLAS picked, as OPENBLAS_CORETYPE takes it.
std::string blas_kernels();

/// Those that a CPU of these features should run instead of `picked`; nullopt if `picked` were picked with
/// knowledge of the CPU, or it can run no better ones.
std::optional<std::string> better_blas_kernels(std::string_view picked, CpuFeatures cpu);

}  // namespace mpk
