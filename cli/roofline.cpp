#include "cli/roofline.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

namespace mpk {
namespace {

constexpr double kLeft = 70, kTop = 40, kWidth = 820, kHeight = 480;
constexpr double kMinX = 1, kMaxX = 1e5, kMinY = 0.5, kMaxY = 2000;
constexpr std::array kColours{"#1f77b4", "#d62728", "#2ca02c", "#9467bd",
                              "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f"};

double x_of(double intensity) {
  return kLeft + kWidth * std::log(intensity / kMinX) / std::log(kMaxX / kMinX);
}
double y_of(double tflops) {
  return kTop + kHeight * (1 - std::log(std::clamp(tflops, kMinY, kMaxY) / kMinY) / std::log(kMaxY / kMinY));
}
std::string line(double x1, double y1, double x2, double y2, const char* style) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x1, y1, x2, y2,
                     style);
}
std::string text(double x, double y, const std::string& what, const char* more = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, more, what);
}

}  // namespace

std::string roofline_svg(const BenchReport& report) {
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0f}\" height=\"{:.0f}\" "
      "font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      kLeft + kWidth + 30, kTop + kHeight + 60);
  svg += text(kLeft, 22, fmt::format("marlin-pack bench, {}", report.gpu), "font-size=\"15\"");
  for (double x = kMinX; x <= kMaxX * 1.001; x *= 10) {
    svg += line(x_of(x), kTop, x_of(x), kTop + kHeight, "stroke=\"#ddd\"");
    svg += text(x_of(x), kTop + kHeight + 18, fmt::format("{:g}", x), "text-anchor=\"middle\"");
  }
  for (double y = 1; y <= kMaxY; y *= 10) {
    svg += line(kLeft, y_of(y), kLeft + kWidth, y_of(y), "stroke=\"#ddd\"");
    svg += text(kLeft - 8, y_of(y) + 4, fmt::format("{:g}", y), "text-anchor=\"end\"");
  }
  svg += text(kLeft + kWidth / 2, kTop + kHeight + 42, "FLOP per byte of weights", "text-anchor=\"middle\"");
  svg += text(kLeft, kTop - 6, "TFLOP/s");

  double rate = 0;  // TB/s, the best floor of the run
  for (const BenchLayer& layer : report.layers)
    rate = std::max(rate, static_cast<double>(layer.bytes) / layer.floor_us * 1e-6);
  if (rate > 0) {
    const double roof = report.peak_tflops.value_or(kMaxY), knee = std::min(roof / rate, kMaxX);
    svg += line(x_of(kMinX), y_of(rate * kMinX), x_of(knee), y_of(rate * knee),
                "stroke=\"black\" stroke-width=\"1.5\"");
    svg += text(x_of(2), y_of(rate * 2) - 10, fmt::format("read {:.2f} TB/s", rate));
    if (report.peak_tflops) {
      svg += line(x_of(knee), y_of(roof), x_of(kMaxX), y_of(roof), "stroke=\"black\" stroke-width=\"1.5\"");
      svg += text(x_of(kMaxX) - 4, y_of(roof) - 6, fmt::format("cuBLAS {:.0f} TFLOP/s", roof),
                  "text-anchor=\"end\"");
    }
  }
  std::size_t index = 0;
  for (const BenchLayer& layer : report.layers) {
    const char* colour = kColours[index % kColours.size()];
    const LayerShape& shape = layer.layer;
    const double mul_adds = static_cast<double>(shape.k.value) * static_cast<double>(shape.n.value);
    for (const BenchPoint& point : layer.points) {
      const double flops = 2 * static_cast<double>(point.m.value) * mul_adds;
      svg += fmt::format(
          "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\" fill=\"{}\"><title>M {}: {:.1f} "
          "us</title></circle>\n",
          x_of(flops / static_cast<double>(layer.bytes)), y_of(flops / point.graph_us * 1e-6), colour,
          point.m.value, point.graph_us);
    }
    svg += text(
        kLeft + kWidth - 250, kTop + kHeight - 14 - 16 * static_cast<double>(index),
        fmt::format("{} {} {} x {}", name_of(shape.weight),
                    activations_text(shape.activations8, shape.activations), shape.k.value, shape.n.value),
        fmt::format("fill=\"{}\"", colour).c_str());
    ++index;
  }
  return svg + "</svg>\n";
}

}  // namespace mpk
