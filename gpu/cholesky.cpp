#include "gpu/cholesky.hpp"

#include "gpu/library.hpp"

#if __has_include(<cusolverDn.h>)
#include <cusolverDn.h>

namespace mpk {

struct GpuCholesky::Impl {
  const Stream& stream;
  SharedLibrary library{"libcusolver.so.12", "libcusolver.so.11", "libcusolver.so"};
  cusolverDnHandle_t handle = nullptr;
  decltype(&cusolverDnDestroy) destroy = nullptr;
  decltype(&cusolverDnSpotrf_bufferSize) buffer_size = nullptr;
  decltype(&cusolverDnSpotrf) potrf = nullptr;
  DeviceBuffer<float> workspace;
  DeviceBuffer<int> info{1};

  explicit Impl(const Stream& s) : stream{s} {
    decltype(&cusolverDnCreate) create = nullptr;
    decltype(&cusolverDnSetStream) set_stream = nullptr;
    library.find(create, "cusolverDnCreate");
    library.find(destroy, "cusolverDnDestroy");
    library.find(set_stream, "cusolverDnSetStream");
    library.find(buffer_size, "cusolverDnSpotrf_bufferSize");
    library.find(potrf, "cusolverDnSpotrf");
    check_status(create(&handle), "cusolverDnCreate");
    check_status(set_stream(handle, stream.get()), "cusolverDnSetStream");
  }
  ~Impl() {
    if (handle) destroy(handle);
  }
};

GpuCholesky::GpuCholesky(const Stream& stream) : impl_{std::make_unique<Impl>(stream)} {}
GpuCholesky::~GpuCholesky() = default;

bool GpuCholesky::factor(std::int64_t n, float* a) const {
  const int size = static_cast<int>(n);
  int elements = 0;
  check_status(impl_->buffer_size(impl_->handle, CUBLAS_FILL_MODE_LOWER, size, a, size, &elements),
               "cusolverDnSpotrf_bufferSize");
  check_status(
      impl_->potrf(impl_->handle, CUBLAS_FILL_MODE_LOWER, size, a, size,
                   impl_->workspace.room(static_cast<std::size_t>(elements)), elements, impl_->info.data()),
      "cusolverDnSpotrf");
  return impl_->info.to_host(impl_->stream).front() == 0;
}

}  // namespace mpk

#else

namespace mpk {

struct GpuCholesky::Impl {};
GpuCholesky::GpuCholesky(const Stream&) {
  throw Error{ErrorKind::device,
              "built without cusolverDn.h: install cuSOLVER's development files and rebuild"};
}
GpuCholesky::~GpuCholesky() = default;
bool GpuCholesky::factor(std::int64_t, float*) const {
  return false;
}

}  // namespace mpk

#endif
