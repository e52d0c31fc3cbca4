#include "gpu/blas.hpp"

#include "gpu/library.hpp"

#if __has_include(<cublas_v2.h>)
#include <cublas_v2.h>

namespace mpk {
namespace {

cudaDataType data_type(GpuFloat type) {
  switch (type) {
    case GpuFloat::f16:
      return CUDA_R_16F;
    case GpuFloat::bf16:
      return CUDA_R_16BF;
    case GpuFloat::f32:
      return CUDA_R_32F;
  }
  return CUDA_R_32F;
}
cublasOperation_t operation(GpuOp op) {
  return op == GpuOp::none ? CUBLAS_OP_N : CUBLAS_OP_T;
}

// Enough for every algorithm on Hopper; a workspace of our own keeps cuBLAS deterministic.
constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;

}  // namespace

struct Blas::Impl {
  const Stream& stream;
  SharedLibrary library{"libcublas.so.13", "libcublas.so.12", "libcublas.so"};
  cublasHandle_t handle = nullptr;
  DeviceBuffer<std::byte> workspace{kWorkspaceBytes};
  decltype(&cublasDestroy_v2) destroy = nullptr;
  // Two names that the header overloads.
  cublasStatus_t (*gemm)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void*,
                         const void*, cudaDataType, int, const void*, cudaDataType, int, const void*, void*,
                         cudaDataType, int, cublasComputeType_t, cublasGemmAlgo_t) = nullptr;
  cublasStatus_t (*trsm)(cublasHandle_t, cublasSideMode_t, cublasFillMode_t, cublasOperation_t,
                         cublasDiagType_t, int, int, const float*, const float*, int, float*, int) = nullptr;

  explicit Impl(const Stream& s) : stream{s} {
    decltype(&cublasCreate_v2) create = nullptr;
    decltype(&cublasSetStream_v2) set_stream = nullptr;
    decltype(&cublasSetWorkspace_v2) set_workspace = nullptr;
    library.find(create, "cublasCreate_v2");
    library.find(destroy, "cublasDestroy_v2");
    library.find(set_stream, "cublasSetStream_v2");
    library.find(set_workspace, "cublasSetWorkspace_v2");
    library.find(gemm, "cublasGemmEx");
    library.find(trsm, "cublasStrsm_v2");
    check_status(create(&handle), "cublasCreate");
    check_status(set_stream(handle, stream.get()), "cublasSetStream");
    check_status(set_workspace(handle, workspace.data(), workspace.size_bytes()), "cublasSetWorkspace");
  }
  ~Impl() {
    if (handle) destroy(handle);
  }
};

Blas::Blas(const Stream& stream) : impl_{std::make_unique<Impl>(stream)} {}
Blas::~Blas() = default;
const Stream& Blas::stream() const {
  return impl_->stream;
}
const std::string& Blas::library() const {
  return impl_->library.name();
}

void Blas::gemm(GpuOp op_a, GpuOp op_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
                ConstGpuMatrix a, ConstGpuMatrix b, float beta, GpuMatrix c, Precision precision) const {
  if (m == 0 || n == 0) return;
  const cublasComputeType_t compute = precision == Precision::tensor_cores && a.type == GpuFloat::f32
                                          ? CUBLAS_COMPUTE_32F_FAST_TF32
                                          : CUBLAS_COMPUTE_32F;
  check_status(impl_->gemm(impl_->handle, operation(op_a), operation(op_b), static_cast<int>(m),
                           static_cast<int>(n), static_cast<int>(k), &alpha, a.data, data_type(a.type),
                           static_cast<int>(a.ld), b.data, data_type(b.type), static_cast<int>(b.ld), &beta,
                           c.data, data_type(c.type), static_cast<int>(c.ld), compute, CUBLAS_GEMM_DEFAULT),
               "cublasGemmEx");
}

void Blas::solve_right(GpuOp op_l, std::int64_t m, std::int64_t n, const float* l, std::int64_t ld_l,
                       float* b, std::int64_t ld_b) const {
  const float one = 1;
  check_status(impl_->trsm(impl_->handle, CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_LOWER, operation(op_l),
                           CUBLAS_DIAG_NON_UNIT, static_cast<int>(m), static_cast<int>(n), &one, l,
                           static_cast<int>(ld_l), b, static_cast<int>(ld_b)),
               "cublasStrsm");
}

}  // namespace mpk

#else

namespace mpk {

struct Blas::Impl {
  const Stream& stream;
  std::string name;
};
Blas::Blas(const Stream&) {
  throw Error{ErrorKind::device, "built without cublas_v2.h: install cuBLAS's development files and rebuild"};
}
Blas::~Blas() = default;
const Stream& Blas::stream() const {
  return impl_->stream;
}
const std::string& Blas::library() const {
  return impl_->name;
}
void Blas::gemm(GpuOp, GpuOp, std::int64_t, std::int64_t, std::int64_t, float, ConstGpuMatrix, ConstGpuMatrix,
                float, GpuMatrix, Precision) const {}
void Blas::solve_right(GpuOp, std::int64_t, std::int64_t, const float*, std::int64_t, float*,
                       std::int64_t) const {}

}  // namespace mpk

#endif
