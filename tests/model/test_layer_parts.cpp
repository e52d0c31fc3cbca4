// Rotation and attention against plain loops in double that share no code with them.

#include <cmath>
#include <complex>
#include <vector>

#include "model/attention.hpp"
#include "model/rope.hpp"
#include "packer/format/error.hpp"
#include "random_decoder.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;

namespace {

/// Softmax attention as the formula stands, one query at a time.
MatrixD attention_oracle(const AttentionShape& shape, std::int64_t length, const MatrixF& q, const MatrixF& k,
                         const MatrixF& v) {
  MatrixD out = MatrixD::Zero(q.rows(), q.cols());
  for (Eigen::Index token = 0; token < q.cols(); ++token)
    for (std::int64_t head = 0; head < shape.num_heads; ++head) {
      const std::int64_t kv_head = head * shape.num_kv_heads / shape.num_heads;
      const auto part = [&](const MatrixF& m, std::int64_t index, Eigen::Index column) {
        return m.col(column).segment(index * shape.head_dim, shape.head_dim).cast<double>().eval();
      };
      const std::int64_t reach = shape.sliding_window.value_or(length);
      double total = 0;
      Eigen::VectorXd sum = Eigen::VectorXd::Zero(shape.head_dim);
      for (Eigen::Index other = token / length * length; other <= token; ++other) {
        if (token - other >= reach) continue;
        const double score =
            part(q, head, token).dot(part(k, kv_head, other)) / std::sqrt(double(shape.head_dim));
        total += std::exp(score);
        sum += std::exp(score) * part(v, kv_head, other);
      }
      out.col(token).segment(head * shape.head_dim, shape.head_dim) = sum / total;
    }
  return out;
}

}  // namespace

TEST_CASE("attention is the formula, within its mask", "[model][attention]") {
  // Around one block of 64 queries, and windows shorter than, equal to and longer than what they slide over.
  const std::int64_t length = GENERATE(1, 2, 63, 64, 65, 150);
  const std::int64_t kv_heads = GENERATE(1, 2, 4);
  const std::optional<std::int64_t> reach = GENERATE(
      std::optional<std::int64_t>{}, std::optional<std::int64_t>{1}, std::optional<std::int64_t>{70});
  CAPTURE(length, kv_heads, reach.value_or(0));
  const AttentionShape shape{4, kv_heads, 10, reach};
  const MatrixF q = test::random_matrix(40, 2 * length, test::seed(), 2.0f);
  const MatrixF k = test::random_matrix(kv_heads * 10, 2 * length, test::seed() + 1, 2.0f);
  const MatrixF v = test::random_matrix(kv_heads * 10, 2 * length, test::seed() + 2);
  MatrixF out(40, 2 * length);
  attend(shape, length, q, k, v, out);
  // A score is a sum of 10 products and its error goes into an exponent: |error| <= 10 eps |q||k| / sqrt(10).
  const double score = 10 * q.colwise().norm().maxCoeff() * k.colwise().norm().maxCoeff() / std::sqrt(10.0);
  const double bound = (score + static_cast<double>(length)) * 0x1p-23 * double{v.cwiseAbs().maxCoeff()};
  CHECK((out.cast<double>() - attention_oracle(shape, length, q, k, v)).cwiseAbs().maxCoeff() <= bound);
}

TEST_CASE("attention survives scores far outside the range of exp", "[model][attention]") {
  const AttentionShape shape{1, 1, 4, std::nullopt};
  MatrixF q = MatrixF::Constant(4, 3, 1e3f), k = MatrixF::Constant(4, 3, 1e3f);
  k.col(1) *= -1.0f;
  const MatrixF v = test::random_matrix(4, 3, test::seed());
  MatrixF out(4, 3);
  attend(shape, 3, q, k, v, out);
  CHECK(out.col(0) == v.col(0));
  CHECK(out.col(1) == v.col(0));
  CHECK(out.col(2).isApprox(0.5f * (v.col(0) + v.col(2)), 1e-6f));
}

TEST_CASE("rotation multiplies complex numbers by e^(i angle)", "[model][rope]") {
  const std::int64_t dim = 14;
  RopeConfig config;
  config.theta = 500.0;
  const RopeTable table{config, dim, 50};
  for (const std::int64_t position : {0, 1, 49}) {
    Eigen::VectorXf head = test::random_matrix(dim, 1, test::seed());
    const Eigen::VectorXf before = head;
    table.rotate(head.data(), position);
    if (position == 0) CHECK(head == before);
    for (std::int64_t i = 0; i < dim / 2; ++i) {
      const double angle = static_cast<double>(position) * std::pow(500.0, -2.0 * double(i) / double(dim));
      const auto turned = std::complex<double>{before[i], before[i + dim / 2]} * std::polar(1.0, angle);
      // The angle is rounded in float32 (and its frequency twice), as the models were trained.
      const double bound = (3 * std::abs(angle) + 4) * 0x1p-24 * std::abs(turned);
      CHECK(std::abs(std::complex<double>{head[i], head[i + dim / 2]} - turned) <= 2 * bound);
    }
  }
}

TEST_CASE("llama3 scaling slows long waves only, and joins without a jump", "[model][rope]") {
  RopeConfig config;
  config.theta = 500000.0;
  const Eigen::VectorXf plain = inverse_frequencies(config, 128);
  config.type = "llama3";
  config.factor = 8.0;
  config.original_max_position = 8192;
  const Eigen::VectorXf scaled = inverse_frequencies(config, 128);
  for (Eigen::Index i = 0; i < plain.size(); ++i) {
    const double wavelength = 2 * 3.14159265358979 / double{plain[i]};
    const double ratio = double{plain[i]} / double{scaled[i]};
    CAPTURE(i, wavelength);
    if (wavelength < 8192 / 4.0)
      CHECK(ratio == 1.0);
    else if (wavelength > 8192)
      CHECK(std::abs(ratio - 8.0) < 1e-5);
    else
      CHECK((ratio > 1.0 && ratio < 8.0));
    if (i > 0) CHECK(scaled[i] < scaled[i - 1]);
  }
}

TEST_CASE("yarn slows what turns seldom in the original context, and mixes between", "[model][rope]") {
  RopeConfig config;
  config.theta = 10000.0;
  const std::int64_t dim = 128;
  const Eigen::VectorXf plain = inverse_frequencies(config, dim);
  config.type = "yarn";
  config.factor = 40.0;
  config.original_max_position = 4096;
  const Eigen::VectorXf scaled = inverse_frequencies(config, dim);
  for (Eigen::Index i = 0; i < plain.size(); ++i) {
    const double turns = 4096 * double{plain[i]} / (2 * 3.14159265358979);
    const double ratio = double{plain[i]} / double{scaled[i]};
    CAPTURE(i, turns, ratio);
    // The borders are rounded outwards to whole elements, each of which turns 1.155 times as fast as the
    // next.
    if (turns > 32 * 1.16)
      CHECK(std::abs(ratio - 1) < 1e-6);
    else if (turns < 1 / 1.16)
      CHECK(std::abs(ratio - 40) < 1e-4);
    else
      CHECK((ratio > 0.999 && ratio < 40.001));
    if (i > 0) CHECK(scaled[i] < scaled[i - 1]);
  }
}

TEST_CASE("linear scaling divides every frequency, an unknown one is refused", "[model][rope]") {
  RopeConfig config;
  const Eigen::VectorXf plain = inverse_frequencies(config, 32);
  config.type = "linear";
  config.factor = 4.0;
  CHECK(inverse_frequencies(config, 32) == plain / 4.0f);
  config.type = "dynamic";
  CHECK_THROWS_AS(inverse_frequencies(config, 32), Error);
}
