#include "gpu/library.hpp"

#include <dlfcn.h>

#include "packer/format/error.hpp"

namespace mpk {

SharedLibrary::SharedLibrary(std::initializer_list<const char*> names) {
  std::string answers;
  for (const char* name : names) {
    handle_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (handle_) {
      name_ = name;
      return;
    }
    answers += std::string{"\n  "} + dlerror();
  }
  throw Error{ErrorKind::device,
              "a CUDA library is missing; put its folder on LD_LIBRARY_PATH if it is installed:" + answers};
}

void* SharedLibrary::address(const char* symbol) const {
  if (void* found = dlsym(handle_, symbol)) return found;
  throw Error{ErrorKind::device, name_ + " has no " + symbol};
}

void check_status(int status, const char* call) {
  if (status != 0)
    throw Error{ErrorKind::device, std::string{call} + " failed with status " + std::to_string(status)};
}

}  // namespace mpk
