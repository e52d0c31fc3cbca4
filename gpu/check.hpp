#pragma once
// A failed CUDA call becomes an Error that names the call.

#include <string>

#include <cuda_runtime_api.h>

#include "packer/format/error.hpp"

namespace mpk {

inline void check_cuda(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  throw Error{ErrorKind::device, std::string{call} + ": " + cudaGetErrorString(status)};
}

}  // namespace mpk

#define MPK_CUDA(call) ::mpk::check_cuda((call), #call)
