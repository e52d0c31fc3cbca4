#pragma once
// Which windows of a token stream the quantizer sees.

#include <cstdint>
#include <optional>
#include <vector>

namespace mpk {

/// `samples` windows of `length` tokens, one after the other: the first ones of the stream, or with a seed,
/// that many of its consecutive windows drawn without repetition. Throws Error{bad_input} if the stream is
/// too short.
std::vector<std::int32_t> calibration_windows(const std::vector<std::int32_t>& tokens, std::int64_t samples,
                                              std::int64_t length, std::optional<std::uint64_t> seed);

}  // namespace mpk
