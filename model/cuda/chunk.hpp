#pragma once
// How much passes through a layer together on the GPU. Plain C++.

#include <algorithm>
#include <cstdint>

namespace mpk {

/// So many tokens, whole windows of `length`: never a matter of how much memory there is, so that results are
/// not either.
constexpr std::int64_t gpu_chunk_tokens(std::int64_t length) {
  constexpr std::int64_t kTokens = 8192;
  return std::max<std::int64_t>(1, kTokens / length) * length;
}

}  // namespace mpk
