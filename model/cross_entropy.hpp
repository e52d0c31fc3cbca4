#pragma once
// What a decoder's predictions of a text cost, without the logits of the whole text in memory.

#include <cstdint>
#include <span>

#include "model/decoder.hpp"

namespace mpk {

/// Sum over each window of -log p(next token), for the state x (hidden, M) after the last layer: one double
/// per window. Never holds more of the (vocab, M) logits than one tile per thread.
Eigen::VectorXd cross_entropy(const Decoder& decoder, ConstMatrixRef x, std::span<const std::int32_t> tokens,
                              std::int64_t length);

}  // namespace mpk
