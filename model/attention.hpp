#pragma once
// Causal softmax attention of grouped query heads.

#include <cstdint>
#include <optional>

#include "quantizer/linalg/gemm.hpp"

namespace mpk {

struct AttentionShape {
  std::int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  std::optional<std::int64_t> sliding_window;  ///< a query sees this many tokens, itself included
  std::optional<double> scale = {};            ///< of q^T k; nullopt: 1 / sqrt(head_dim)
  std::optional<double> softcap = {};          ///< c: a scaled score s becomes c tanh(s / c)
  std::optional<std::int64_t> value_dim = {};  ///< of a head of v and out; nullopt: head_dim
};

/// out <- softmax(scale q^T k) v for each head and window of `length` columns.
/// q (num_heads * head_dim, M), out (num_heads * value_dim, M), k, v likewise with num_kv_heads.
void attend(const AttentionShape& shape, std::int64_t length, ConstMatrixRef q, ConstMatrixRef k,
            ConstMatrixRef v, MatrixRef out);

}  // namespace mpk
