#include "quantizer/methods.hpp"

#include <array>

namespace mpk {
namespace {

constexpr std::array kMethods{
    Method{"rtn", "round to nearest; needs no calibration text", rtn, false},
    Method{"gptq", "each input makes up for the rounding error of those before it", gptq, true},
};

}  // namespace

std::span<const Method> methods() {
  return kMethods;
}

}  // namespace mpk
