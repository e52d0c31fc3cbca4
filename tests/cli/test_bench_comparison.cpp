#include <map>
#include <set>
#include <utility>

#include "cli/pipeline/bench_comparison.hpp"
#include "packer/format/error.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/errors.hpp"
#include "tests/support/files.hpp"

using namespace mpk;

namespace {

LayerShape layer(std::int64_t k, std::int64_t n, Weight weight = Weight::u4b8, int group = 128,
                 Float activations = Float::f16) {
  return {.weight = weight,
          .group_size = group > 0 ? std::optional{GroupSize{group}} : std::nullopt,
          .k = K{k},
          .n = N{n},
          .activations = activations};
}

LayerShape for_activations(Activation8 activations, LayerShape layer) {
  layer.activations8 = activations;
  return layer;
}

BenchPoint point(std::int64_t m, double us, std::optional<double> cublas_us = std::nullopt) {
  return {.m = M{m}, .kernel = {}, .graph_us = us, .cublas_us = cublas_us};
}

Comparison read(const test::ScratchDir& dir, const std::string& text) {
  test::write_file(dir / "times.json", text);
  return read_comparison({dir / "times.json"});
}

constexpr const char* kRow = R"({"k": 64, "n": 128, "m": 2, "type": "u4b8", "us": 3.5, "name": "other"})";
std::string file_of(const std::string& rows) {
  return R"({"label": "here", "rows": [)" + rows + "]}";
}

}  // namespace

TEST_CASE("a product is held against the least time of its own kind", "[bench_comparison]") {
  const test::ScratchDir dir;
  const Comparison times =
      read(dir, file_of(std::string{kRow} +
                        R"(, {"k": 64, "n": 128, "m": 2, "type": "u4b8", "us": 3, "name": "faster"},
                        {"k": 64, "n": 128, "m": 2, "type": "u4b8", "us": 1, "name": "bf16", "activations": "bf16"},
                        {"k": 64, "n": 128, "m": 2, "type": "u4b8", "us": 1, "name": "one", "group_size": -1},
                        {"k": 64, "n": 128, "m": 2, "type": "nvfp4", "us": 2, "name": "fp4"},
                        {"k": 64, "n": 128, "m": 2, "type": "u4b8-e4m3", "us": 1, "name": "fp8"},
                        {"k": 64, "n": 128, "m": 2, "type": "u4b8-int8", "us": 1, "name": "int8"})"));
  const auto best = [&](const LayerShape& shape, std::int64_t m) -> std::string {
    const ComparisonTime* found = best_time(times, shape, M{m});
    return found == nullptr ? "none" : found->name;
  };
  REQUIRE(times.labels == std::vector<std::string>{"here"});
  REQUIRE(best(layer(64, 128), 2) == "faster");
  REQUIRE(best(layer(64, 128, Weight::u4b8, 128, Float::bf16), 2) == "bf16");
  REQUIRE(best(layer(64, 128, Weight::u4b8, -1), 2) == "one");
  REQUIRE(best(layer(64, 128, Weight::nvfp4, 16), 2) == "fp4");
  REQUIRE(best(for_activations(Activation8::e4m3, layer(64, 128)), 2) == "fp8");
  REQUIRE(best(for_activations(Activation8::int8, layer(64, 128, Weight::u4b8, -1)), 2) == "int8");
  REQUIRE(best(for_activations(Activation8::e4m3, layer(64, 128, Weight::u4b8, -1)), 2) == "none");
  REQUIRE(best(layer(64, 128), 1) == "none");
  REQUIRE(best(layer(128, 64), 2) == "none");
  REQUIRE(best(layer(64, 128, Weight::u4b8, 64), 2) == "none");
  REQUIRE(best(layer(64, 128, Weight::u4), 2) == "none");
}

TEST_CASE("scores count what is no slower - of all and of each name", "[bench_comparison]") {
  BenchReport report;
  report.layers = {{.layer = layer(64, 128), .points = {point(1, 5), point(2, 8), point(4, 1)}}};
  Comparison times;
  times.times = {{"a", layer(64, 128), M{1}, 5.0},
                 {"b", layer(64, 128), M{1}, 4.0},
                 {"a", layer(64, 128), M{2}, 9.0},
                 {"c", layer(64, 64), M{2}, 9.0}};
  std::vector<std::pair<int, int>> counts;
  for (const ComparisonScore& score : scores(report, times)) counts.emplace_back(score.met, score.of);
  REQUIRE(counts == std::vector<std::pair<int, int>>{{1, 2}, {2, 2}, {0, 1}, {0, 0}});
}

TEST_CASE("a bench's worst step and its worst product beside cuBLAS", "[bench_comparison]") {
  BenchReport report;
  REQUIRE_FALSE(largest_step(report, M{16}, M{32}));
  REQUIRE_FALSE(slowest_beside_cublas(report, M{256}));
  report.layers = {
      {.layer = layer(64, 128), .points = {point(16, 4, 1), point(32, 5, 1), point(256, 6, 8)}},
      {.layer = layer(64, 256), .points = {point(16, 4), point(32, 6), point(512, 9, 10), point(1024, 99)}},
      {.layer = layer(64, 512), .points = {point(32, 60)}}};
  const BenchRatio step = largest_step(report, M{16}, M{32}).value();
  REQUIRE(step.layer == &report.layers[1]);
  REQUIRE(step.ratio == 1.5);
  const BenchRatio slowest = slowest_beside_cublas(report, M{256}).value();
  REQUIRE(slowest.layer == &report.layers[1]);
  REQUIRE(slowest.m == M{512});
  REQUIRE(slowest.ratio == 0.9);
}

TEST_CASE("files of times that cannot be meant are refused with the row", "[bench_comparison]") {
  const test::ScratchDir dir;
  REQUIRE(read(dir, file_of(kRow)).times.size() == 1);
  const auto altered = [](std::string text, const std::string& what, const std::string& instead) {
    const auto at = text.find(what);
    REQUIRE(at != std::string::npos);
    return text.replace(at, what.size(), instead);
  };
  const std::vector<std::pair<std::string, std::string>> cases{
      {"[]", "label"},
      {R"({"label": "here"})", "rows"},
      {file_of(""), "rows"},
      {altered(file_of(kRow), "label", "labels"), "labels"},
      {file_of("7"), "object"},
      {file_of(altered(kRow, "\"us\": 3.5", "\"us\": 0")), "us"},
      {file_of(altered(kRow, "\"us\": 3.5, ", "")), "us"},
      {file_of(altered(kRow, "u4b8", "u5")), "u8b128"},
      {file_of(altered(kRow, "\"m\": 2", "\"m\": 2.5")), "\"m\""},
      {file_of(altered(kRow, "\"n\": 128", "\"n\": \"128\"")), "\"n\""},
      {file_of(altered(kRow, "other", "")), "name"},
      {file_of(altered(kRow, "\"us\"", "\"activations\": \"f32\", \"us\"")), "bf16"},
      {file_of(altered(kRow, "\"us\"", "\"group_size\": 0, \"us\"")), "group_size"},
      {file_of(altered(kRow, "\"us\"", "\"group\": 128, \"us\"")), "group_size"},
  };
  for (const auto& [text, named] : cases) {
    CAPTURE(text);
    const Error error = test::error_of([&] { read(dir, text); }).value();
    REQUIRE(error.kind() == ErrorKind::bad_input);
    REQUIRE(std::string{error.what()}.find(named) != std::string::npos);
    REQUIRE(std::string{error.what()}.find("times.json") != std::string::npos);
  }
  const Error second = test::error_of([&] {
                         read(dir, file_of(std::string{kRow} + ", " + altered(kRow, "\"m\": 2", "\"m\": 0")));
                       }).value();
  REQUIRE(std::string{second.what()}.find("rows[1]") != std::string::npos);
}

TEST_CASE("the times that come with the source name every product once", "[bench_comparison]") {
  const Comparison times = read_comparison({std::filesystem::path{MPK_SOURCE_DIR} / "bench/h200_peers.json"});
  std::set<std::tuple<std::string, std::int64_t, std::int64_t, std::int64_t>> seen;
  std::map<std::string, int> rows;
  for (const ComparisonTime& time : times.times) {
    REQUIRE(seen.emplace(time.name, time.layer.k.value, time.layer.n.value, time.m.value).second);
    ++rows[time.name];
  }
  REQUIRE(rows == std::map<std::string, int>{{"Humming", 35}, {"goal", 35}, {"vLLM 0.33 Marlin", 35}});
}
