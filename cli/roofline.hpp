#pragma once
// A bench report as a picture: rate over intensity, under the two lines that bound it.

#include <string>

#include "kernels/bench.hpp"

namespace mpk {

/// SVG. x: floating-point operations per byte of weights; y: TFLOP/s; both logarithmic. The slope is the
/// measured read rate, the roof cuBLAS's f16 rate (left out where cuBLAS was not measured).
std::string roofline_svg(const BenchReport& report);

}  // namespace mpk
