#pragma once
// The linear layers of well-known models, for proving and timing kernels without a checkpoint.

#include <string>
#include <string_view>
#include <vector>

#include "packer/format/units.hpp"

namespace mpk {

struct LinearShape {
  const char* layer;  ///< which linears have it
  K k;
  N n;
};

/// "llama3-8b", "llama3-70b", or KxN such as "4096x14336". Throws Error{usage} that lists the names.
std::vector<LinearShape> shapes_named(std::string_view name);

}  // namespace mpk
