#pragma once
// What a rank holds of the tensors that are no packed layer's: float weights of layers that are divided, in
// parts; everything else whole.

#include <cstdint>
#include <string>
#include <vector>

#include "packer/format/tensor.hpp"
#include "packer/io/checkpoint.hpp"
#include "packer/tensor_parallel.hpp"

namespace mpk {

/// A plain tensor on one rank.
struct RankTensor {
  Shape shape;
  bool is_whole = true;
  std::vector<ColumnRange> outputs = {};  ///< along the first dimension
  RowRange inputs = {};                   ///< along the second, if there is one
  bool is_zero = false;                   ///< a bias that another rank has
};

/// `name`.weight (N, K) and its bias (N) are divided as a packed layer of that name would be; embeddings,
/// lm_head, norms and all other tensors are whole on every rank, which engines that divide the vocabulary cut
/// when they load. Throws Error{unsupported} with the reason for a layer that cannot be divided.
RankTensor rank_tensor(const Checkpoint& checkpoint, const std::string& name, const Heads& heads,
                       std::int64_t ranks, std::int64_t rank);

/// Its bytes.
Tensor cut(const TensorView& tensor, const RankTensor& part);

}  // namespace mpk
