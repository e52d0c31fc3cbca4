#include "model/rope.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "packer/format/error.hpp"

namespace mpk {
namespace {

/// Llama 3: long waves turn `factor` times slower, short ones as before, and those between are interpolated.
float llama3_frequency(const RopeConfig& config, float frequency) {
  const auto factor = static_cast<float>(config.factor);
  const auto low = static_cast<float>(config.low_freq_factor),
             high = static_cast<float>(config.high_freq_factor);
  const auto context = static_cast<float>(config.original_max_position);
  const float wavelength = 2.0f * std::numbers::pi_v<float> / frequency;
  if (wavelength > context / low) return frequency / factor;
  if (wavelength < context / high) return frequency;
  const float smooth = (context / wavelength - low) / (high - low);
  return (1.0f - smooth) * frequency / factor + smooth * frequency;
}

/// The element of a head that turns `turns` times in the original context.
double yarn_element(const RopeConfig& config, std::int64_t dim, double turns) {
  return static_cast<double>(dim) * std::log(config.original_max_position / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(config.theta));
}

/// YaRN: elements that turn often in the original context turn as before, slow ones `factor` times slower.
float yarn_frequency(const RopeConfig& config, std::int64_t dim, Eigen::Index element, float frequency) {
  double low = yarn_element(config, dim, config.beta_fast),
         high = yarn_element(config, dim, config.beta_slow);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  const double ramp = (static_cast<double>(element) - low) / (high - low);
  const auto slow = static_cast<float>(std::clamp(ramp, 0.0, 1.0));
  return frequency / static_cast<float>(config.factor) * slow + frequency * (1.0f - slow);
}

}  // namespace

Eigen::VectorXf inverse_frequencies(const RopeConfig& config, std::int64_t dim, std::int64_t length) {
  const bool is_long = static_cast<double>(length) > config.original_max_position;
  const std::vector<double>& factors = is_long ? config.long_factor : config.short_factor;
  Eigen::VectorXf frequencies(dim / 2);
  for (Eigen::Index i = 0; i < frequencies.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(dim);
    float frequency = 1.0f / std::pow(static_cast<float>(config.theta), exponent);
    if (config.type == "linear")
      frequency /= static_cast<float>(config.factor);
    else if (config.type == "llama3")
      frequency = llama3_frequency(config, frequency);
    else if (config.type == "yarn")
      frequency = yarn_frequency(config, dim, i, frequency);
    else if (config.type == "longrope")
      frequency = 1.0f / (static_cast<float>(factors.at(static_cast<std::size_t>(i))) *
                          std::pow(static_cast<float>(config.theta), exponent));
    else if (config.type != "default")
      throw Error{ErrorKind::unsupported, "RoPE type " + config.type};
    frequencies[i] = frequency;
  }
  return frequencies;
}

RopeTable::RopeTable(const RopeConfig& config, std::int64_t dim, std::int64_t length)
    : cos_(dim / 2, length), sin_(dim / 2, length) {
  const Eigen::VectorXf frequencies = inverse_frequencies(config, dim, length);
  const auto factor = static_cast<float>(config.attention_factor);
#pragma omp parallel for schedule(static)
  for (std::int64_t position = 0; position < length; ++position)
    for (Eigen::Index i = 0; i < frequencies.size(); ++i) {
      const float angle = static_cast<float>(position) * frequencies[i];
      cos_(i, position) = std::cos(angle) * factor;
      sin_(i, position) = std::sin(angle) * factor;
    }
}

void RopeTable::rotate(float* head, std::int64_t position) const {
  const Eigen::Index half = cos_.rows();
  const float* cos = cos_.col(position).data();
  const float* sin = sin_.col(position).data();
  for (Eigen::Index i = 0; i < half; ++i) {
    const float a = head[i], b = head[i + half];
    head[i] = a * cos[i] - b * sin[i];
    head[i + half] = b * cos[i] + a * sin[i];
  }
}

void RopeTable::rotate_neighbours(float* head, std::int64_t position) const {
  const float* cos = cos_.col(position).data();
  const float* sin = sin_.col(position).data();
  for (Eigen::Index i = 0; i < cos_.rows(); ++i) {
    const float a = head[2 * i], b = head[2 * i + 1];
    head[2 * i] = a * cos[i] - b * sin[i];
    head[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

}  // namespace mpk
