#include "quantizer/methods.hpp"

#include <array>

namespace mpk {
namespace {

constexpr std::array kMethods{
    Method{"rtn", "round to nearest; needs no calibration text", rtn, false, false, false},
    Method{"gptq", "each input makes up for the rounding error of those before it", gptq, true, false, true},
    Method{"awq", "inputs that carry much are scaled up, then round to nearest", rtn, true, true, false},
    Method{"awq-gptq", "awq's scales, then gptq", gptq, true, true, true},
};

}  // namespace

std::span<const Method> methods() {
  return kMethods;
}

}  // namespace mpk
