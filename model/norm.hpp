#pragma once
// RMS norm: x * weight / sqrt(mean(x^2) + eps).

#include <cstdint>

#include "quantizer/linalg/gemm.hpp"

namespace mpk {

/// out <- norm of in[0 .. n - 1]; in and out may be the same.
void rms_norm(const float* in, const float* weight, std::int64_t n, float eps, float* out);

/// Of every column; out is resized to x's shape.
void rms_norm(ConstMatrixRef x, const Eigen::VectorXf& weight, float eps, MatrixF& out);

}  // namespace mpk
