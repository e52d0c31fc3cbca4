// Conversions of whole checkpoints: there, proven, and back to the byte.

#include <cstring>
#include <fstream>
#include <map>
#include <random>

#include "cli/pipeline/convert.hpp"
#include "cli/pipeline/verify_artifact.hpp"
#include "packer/format/float16.hpp"
#include "packer/format/float_bits.hpp"
#include "packer/io/checkpoint.hpp"
#include "packer/io/checkpoint_writer.hpp"
#include "tests/packer/random_matrix.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

/// A checkpoint of two layers in one format, with a bias and an embedding beside them.
struct Source {
  ScratchDir dir;
  std::filesystem::path path = dir / "source";

  Source(const std::string& format, const Scheme& scheme, const nlohmann::json& config, int lowest_zero = 0,
         K k = K{256}) {
    std::filesystem::create_directory(path);
    std::vector<TensorSpec> specs{{"model.embed_tokens.weight", DType::BF16, {8, 16}},
                                  {"model.layers.0.mlp.up_proj.bias", DType::F16, {384}}};
    std::map<std::string, Tensor> tensors;
    unsigned seed = 7;
    for (const char* module : {"model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj"}) {
      QuantizedMatrix matrix = random_matrix(scheme, k, N{384}, ++seed, lowest_zero);
      for (float& scale : matrix.scales.reshaped()) scale = std::ldexp(1.0f, -4 - static_cast<int>(seed % 3));
      for (Part& part : weight_format_named(format)->encode(matrix)) {
        const std::string name = std::string{module} + "." + part.suffix;
        specs.push_back({name, part.tensor.dtype, part.tensor.shape});
        tensors[name] = std::move(part.tensor);
      }
    }
    CheckpointWriter writer(path, specs, 1 << 30);
    for (const TensorSpec& spec : specs) {
      if (!tensors.contains(spec.name))
        tensors[spec.name] = {
            spec.dtype, spec.shape,
            std::vector<std::byte>(num_bytes({spec.name, spec.dtype, spec.shape}), std::byte{60})};
      writer.write(spec.name, tensors[spec.name].view());
    }
    writer.finish();
    std::ofstream{path / "config.json"}
        << nlohmann::json{{"torch_dtype", "float16"}, {"quantization_config", config}};
  }
};

void require_same_tensors(const std::filesystem::path& a, const std::filesystem::path& b) {
  const Checkpoint one = Checkpoint::open(a), other = Checkpoint::open(b);
  REQUIRE(one.names() == other.names());
  for (const std::string& name : one.names()) {
    CAPTURE(name);
    const TensorView x = one.tensor(name), y = other.tensor(name);
    REQUIRE((x.dtype == y.dtype && x.shape == y.shape && std::ranges::equal(x.data, y.data)));
  }
  REQUIRE(one.config() == other.config());
}

ConvertJob job(const std::filesystem::path& source, const std::filesystem::path& destination,
               std::vector<std::string> targets) {
  ConvertJob job;
  job.source = source;
  job.destination = destination;
  job.targets = std::move(targets);
  return job;
}

/// A checkpoint of one 4-bit HQQ layer whose zero points are stored in `zero_dtype`.
std::filesystem::path write_hqq(const ScratchDir& dir, const QuantizedMatrix& q, DType zero_dtype) {
  const std::int64_t k = q.k().value, n = q.n().value, groups = q.scales.rows(), size = k / groups;
  const std::int64_t rows = n * groups, half = rows / 2;
  const auto code = [&](std::int64_t row, std::int64_t i) {
    return static_cast<unsigned>(q.codes(row % groups * size + i, row / groups));
  };
  Tensor codes{DType::U8, {half, size}, {}}, scales{q.scheme.scale_dtype, {rows, 1}, {}},
      zeros{zero_dtype, {rows, 1}, {}}, shape{DType::I64, {2}, std::vector<std::byte>(16)};
  for (std::int64_t row = 0; row < half; ++row)
    for (std::int64_t i = 0; i < size; ++i)
      codes.data.push_back(static_cast<std::byte>(code(row, i) << 4 | code(row + half, i)));
  const auto append = [](Tensor& tensor, float value) {
    std::byte bytes[4];
    store_rounded(value, tensor.dtype, bytes);
    tensor.data.insert(tensor.data.end(), bytes, bytes + bytes_of(tensor.dtype));
  };
  for (std::int64_t row = 0; row < rows; ++row) {
    append(scales, q.scales(row % groups, row / groups));
    append(zeros, q.float_zeros(row % groups, row / groups));
  }
  std::memcpy(shape.data.data(), &n, 8);
  std::memcpy(shape.data.data() + 8, &k, 8);
  const std::string module = "model.layers.0.mlp.up_proj.";
  std::vector<TensorSpec> specs;
  const std::vector<std::pair<std::string, const Tensor*>> tensors{{module + "W_q", &codes},
                                                                   {module + "scale", &scales},
                                                                   {module + "zero", &zeros},
                                                                   {module + "shape", &shape}};
  for (const auto& [name, tensor] : tensors) specs.push_back({name, tensor->dtype, tensor->shape});
  const auto path = dir / "hqq";
  std::filesystem::create_directory(path);
  CheckpointWriter writer(path, specs, 1 << 30);
  for (const auto& [name, tensor] : tensors) writer.write(name, tensor->view());
  writer.finish();
  std::ofstream{path / "config.json"} << nlohmann::json{
      {"torch_dtype", "float16"},
      {"quantization_config",
       {{"quant_method", "hqq"},
        {"quant_config", {{"weight_quant_params", {{"nbits", 4}, {"group_size", size}, {"axis", 1}}}}}}}};
  return path;
}

Scheme zeros(ScalarType type) {
  Scheme scheme{type, GroupSize{128}, DType::F16};
  scheme.zero_points = ZeroPoints::integer;
  return scheme;
}

const nlohmann::json kGptq{
    {"quant_method", "gptq"}, {"bits", 4}, {"group_size", 128}, {"sym", true}, {"desc_act", false}};

}  // namespace

TEST_CASE("symmetric GPTQ goes to every format and comes back to the byte", "[convert]") {
  const Source source("gptq", {kU4B8, GroupSize{128}, DType::F16}, kGptq);
  const std::vector<std::string> targets{"marlin", "marlin-a8", "marlin-original", "gptq-v2",
                                         "awq",    "awq-gemv",  "awq-gemv-fast",   "compressed-tensors"};
  const ConvertReport report = run_convert(job(source.path, source.dir / "out", targets));
  for (const auto& artifact : report.artifacts) {
    CAPTURE(artifact.target);
    VerifyJob verify;
    verify.artifact = artifact.directory;
    verify.source = source.path;
    verify.device = Device::cpu;
    const VerifyReport verdict = run_verify(verify);
    CAPTURE(verdict.all_failures());
    REQUIRE(verdict.passed());
    for (const ConvertedLayer& layer : artifact.layers) REQUIRE(layer.exactness == "exact");
    const auto back = source.dir / ("back-" + artifact.target);
    run_convert(job(artifact.directory, back, {"origin"}));
    require_same_tensors(source.path, back);
  }
}

TEST_CASE("zero points, act-order and small floats keep every bit on the way through marlin", "[convert]") {
  Scheme scrambled{kU4B8, GroupSize{128}, DType::F16};
  scrambled.act_order = true;
  struct Case {
    const char* format;
    Scheme scheme;
    nlohmann::json config;
  };
  const std::vector<Case> cases{
      {"awq", zeros(kU4), {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 128}, {"version", "gemm"}}},
      {"gptq", scrambled, kGptq},
      {"ct-mxfp4-pack-quantized",
       {kE2M1, GroupSize{32}, DType::F8_E8M0},
       {{"quant_method", "compressed-tensors"}}},
      {"ct-float-quantized", {kE4M3, std::nullopt, DType::BF16}, {{"quant_method", "compressed-tensors"}}}};
  for (const Case& c : cases) {
    CAPTURE(c.format);
    const Source source(c.format, c.scheme, c.config);
    run_convert(job(source.path, source.dir / "marlin", {"marlin"}));
    run_convert(job(source.dir / "marlin", source.dir / "back", {"origin"}));
    require_same_tensors(source.path, source.dir / "back");
  }
}

TEST_CASE("marlin-a8 is for the activations that were asked for", "[convert]") {
  nlohmann::json config = kGptq;
  config["group_size"] = -1;
  const Source source("gptq", {kU4B8, std::nullopt, DType::F16}, config);
  const auto [activations, recorded] = GENERATE(table<std::optional<DType>, DType>(
      {{std::nullopt, DType::F8_E4M3}, {DType::F8_E4M3, DType::F8_E4M3}, {DType::I8, DType::I8}}));
  ConvertJob to_a8 = job(source.path, source.dir / "out", {"marlin-a8"});
  to_a8.recode.activations = activations;
  run_convert(to_a8);
  VerifyJob verify;
  verify.artifact = source.dir / "out";
  verify.source = source.path;
  verify.device = Device::cpu;
  const VerifyReport verdict = run_verify(verify);
  CAPTURE(verdict.all_failures());
  REQUIRE(verdict.passed());
  for (const LayerCheck& layer : verdict.layers)
    REQUIRE(weight_format_named("marlin-a8")->activations(layer.scheme) == recorded);
  run_convert(job(source.dir / "out", source.dir / "back", {"origin"}));
  require_same_tensors(source.path, source.dir / "back");
}

TEST_CASE("HQQ's float zero points go to marlin, exactly or with the largest error said", "[convert]") {
  const DType zero_dtype = GENERATE(DType::F16, DType::F32);
  const int group = GENERATE(64, 16, -1), k = GENERATE(128, 320);  // 320 is padded
  if (group == 16 && zero_dtype == DType::F16) return;
  CAPTURE(info(zero_dtype).name, group, k);
  const ScratchDir dir;
  Scheme scheme{kU4, group_size_from_number(group), DType::F16};
  scheme.zero_points = ZeroPoints::floating;
  QuantizedMatrix q = random_matrix(scheme, K{k}, N{128}, seed());
  std::mt19937 random{seed()};
  std::uniform_real_distribution<float> zero{0.5f, 14.5f}, scale{0.001f, 0.1f};
  for (float& s : q.scales.reshaped()) s = f16_to_float(float_to_f16(scale(random)));
  for (float& z : q.float_zeros.reshaped()) {
    z = zero(random);
    if (zero_dtype == DType::F16) z = f16_to_float(float_to_f16(z));
  }
  const auto source = write_hqq(dir, q, zero_dtype);
  const auto convert = [&] { return run_convert(job(source, dir / "out", {"marlin"})); };
  if (group == 16) {
    CHECK(mentions(error_of(ErrorKind::unsupported, convert), "group_size"));
    return;
  }
  const ConvertReport report = convert();
  const ConvertedLayer& layer = report.artifacts.at(0).layers.at(0);
  CHECK(layer.after.scheme.zero_points == ZeroPoints::floating);
  CHECK(mentions(layer.exactness, zero_dtype == DType::F16 ? "exact" : "zero points off by at most"));
  VerifyJob verify;
  verify.artifact = dir / "out";
  verify.device = Device::cpu;
  const VerifyReport verdict = run_verify(verify);
  CAPTURE(verdict.all_failures());
  REQUIRE(verdict.passed());

  const Checkpoint made = Checkpoint::open(dir / "out");
  PartViews parts;
  for (const char* suffix : {"qweight", "qzeros", "scales"})
    parts.emplace(suffix, made.tensor(std::string{"model.layers.0.mlp.up_proj."} + suffix));
  REQUIRE(parts.at("qzeros").dtype == DType::F16);
  const QuantizedMatrix packed =
      weight_format_named("marlin")->decode(parts, layer.after.scheme, layer.after.k, layer.after.n);
  CHECK(packed.codes.topRows(k) == q.codes);
  CHECK(packed.scales.topRows(q.scales.rows()) == q.scales);
  const MatrixF expected = q.float_zeros.unaryExpr([](float z) { return f16_to_float(float_to_f16(z)); });
  CHECK(packed.float_zeros.topRows(q.scales.rows()) == expected);
  CHECK(dequantize(packed).bottomRows(layer.after.k.value - k).isZero(0));
}

TEST_CASE("layers that marlin has no size for are padded, and cropped on the way back", "[convert]") {
  const Source source("gptq", {kU4B8, GroupSize{32}, DType::F16}, kGptq, 0, K{96});
  const ConvertReport report = run_convert(job(source.path, source.dir / "out", {"marlin"}));
  CHECK(report.artifacts[0].layers[0].after.k == K{128});
  run_convert(job(source.dir / "out", source.dir / "back", {"origin"}));
  require_same_tensors(source.path, source.dir / "back");
  ConvertJob strict = job(source.path, source.dir / "strict", {"marlin"});
  strict.recode.pad = false;
  CHECK(mentions(error_of(ErrorKind::unsupported, [&] { run_convert(strict); }), "K = 96"));
}

TEST_CASE("what cannot be converted is refused before any work, all layers in one message", "[convert]") {
  const Source source("awq", zeros(kU4),
                      {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 128}, {"version", "gemm"}});
  const std::string text = error_of(ErrorKind::unsupported, [&] {
    run_convert(job(source.path, source.dir / "out", {"marlin-original"}));
  });
  CHECK(mentions(text, "2 layers cannot be converted"));
  CHECK(mentions(text, "u4b8 codes, not u4"));
  CHECK_FALSE(std::filesystem::exists(source.dir / "out"));
}

TEST_CASE("dequantized weights are what the codes stand for, rounded once", "[convert]") {
  const Source source("gptq", {kU4B8, GroupSize{128}, DType::F16}, kGptq);
  run_convert(job(source.path, source.dir / "float", {"float"}));
  const Checkpoint made = Checkpoint::open(source.dir / "float");
  CHECK_FALSE(made.config().contains("quantization_config"));
  const TensorView weight = made.tensor("model.layers.0.mlp.up_proj.weight");
  REQUIRE(weight.dtype == DType::F16);
  REQUIRE(weight.shape == Shape{384, 256});
  const Checkpoint packed = Checkpoint::open(source.path);
  PartViews parts;
  for (const char* suffix : {"qweight", "qzeros", "scales", "g_idx"})
    parts.emplace(suffix, packed.tensor(std::string{"model.layers.0.mlp.up_proj."} + suffix));
  const MatrixF expected = dequantize(
      weight_format_named("gptq")->decode(parts, {kU4B8, GroupSize{128}, DType::F16}, K{256}, N{384}));
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < expected.size(); ++i)
    wrong +=
        load_float(weight.data.data() + 2 * i, DType::F16) != f16_to_float(float_to_f16(expected.data()[i]));
  CHECK(wrong == 0);
}
