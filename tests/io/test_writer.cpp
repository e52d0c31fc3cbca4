// What is written reads back, and the bytes depend on nothing but the tensors.

#include <random>
#include <thread>

#include "packer/io/checkpoint.hpp"
#include "packer/io/checkpoint_writer.hpp"
#include "packer/io/sha256.hpp"
#include "tests/io/container.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;
namespace fs = std::filesystem;

namespace {

using Tensors = std::vector<std::pair<std::string, Tensor>>;

std::vector<TensorSpec> specs_of(const Tensors& tensors) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) specs.push_back({name, tensor.dtype, tensor.shape});
  return specs;
}

void write_all(const fs::path& directory, const Tensors& tensors, std::uint64_t max_shard_bytes) {
  CheckpointWriter writer{directory, specs_of(tensors), max_shard_bytes};
  for (const auto& [name, tensor] : tensors) writer.write(name, tensor.view());
  writer.finish();
}

void check_equal(const Checkpoint& checkpoint, const Tensors& tensors) {
  REQUIRE(checkpoint.names().size() == tensors.size());
  for (const auto& [name, tensor] : tensors) {
    CAPTURE(name);
    const auto view = checkpoint.tensor(name);
    CHECK(view.dtype == tensor.dtype);
    CHECK(view.shape == tensor.shape);
    CHECK(text_of(view.data) == text_of(tensor.data));
  }
}

/// Every dtype as scalar where that is whole bytes, as matrix, and without elements.
Tensors one_of_each() {
  Tensors tensors;
  unsigned seed = 1;
  for (const auto& type : kDTypes) {
    std::vector<Shape> shapes{{4}, {3, 4}, {2, 1, 4, 1}, {0}, {3, 0, 2}};
    if (type.bits % 8 == 0) shapes.push_back({});
    for (const auto& shape : shapes)
      tensors.emplace_back(std::string{type.name} + to_string(shape),
                           random_tensor(type.dtype, shape, seed++));
  }
  return tensors;
}

std::map<std::string, std::string> files_in(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator{directory})
    files[entry.path().filename().string()] = read_file(entry.path());
  return files;
}

}  // namespace

TEST_CASE("every dtype and rank comes back", "[io][writer]") {
  const auto tensors = one_of_each();
  const auto max_shard_bytes = GENERATE(std::uint64_t{1}, std::uint64_t{40}, std::uint64_t{1} << 30);
  const ScratchDir dir;
  write_all(dir.path(), tensors, max_shard_bytes);
  check_equal(Checkpoint::open(dir.path()), tensors);
}

TEST_CASE("the writer produces the worked example of the format", "[io][writer]") {
  const auto bytes = [](const std::string& text) {
    const auto span = bytes_of(text);
    return std::vector<std::byte>(span.begin(), span.end());
  };
  const ScratchDir dir;
  write_all(dir.path(),
            {{"s", {DType::F16, {1}, bytes({"\x00\x3c", 2})}},
             {"w", {DType::I32, {1, 2}, bytes({"\x01\x00\x00\x00\x02\x00\x00\x00", 8})}}},
            1000);
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"w":{"dtype":"I32","shape":[1,2],"data_offsets":[0,8]},)"
      R"("s":{"dtype":"F16","shape":[1],"data_offsets":[8,10]}}   )";
  CHECK(read_file(dir / "model.safetensors") ==
        container(header, std::string{"\x01\x00\x00\x00\x02\x00\x00\x00\x00\x3c", 10}));
}

TEST_CASE("the bytes depend neither on the order of writing nor on threads", "[io][writer]") {
  auto tensors = one_of_each();
  tensors.emplace_back("large", random_tensor(DType::F32, {1000, 777}, 5));  // several pieces
  const ScratchDir dir;
  fs::create_directories(dir / "a");
  fs::create_directories(dir / "b");
  write_all(dir / "a", tensors, 200);

  CheckpointWriter writer{dir / "b", specs_of(tensors), 200};
  std::shuffle(tensors.begin(), tensors.end(), std::mt19937{mpk::test::seed()});
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (std::size_t i = t; i < tensors.size(); i += 4)
        writer.write(tensors[i].first, tensors[i].second.view());
    });
  for (auto& thread : threads) thread.join();
  writer.finish();
  CHECK(files_in(dir / "a") == files_in(dir / "b"));
}

TEST_CASE("inside a file: canonical order, every tensor aligned, format pt", "[io][writer]") {
  auto tensors = one_of_each();
  std::shuffle(tensors.begin(), tensors.end(), std::mt19937{mpk::test::seed()});
  const ScratchDir dir;
  write_all(dir.path(), tensors, 1 << 30);

  const auto file = read_file(dir / "model.safetensors");
  std::uint64_t length = 0;
  for (std::size_t i = 8; i-- > 0;) length = length << 8 | static_cast<unsigned char>(file[i]);
  REQUIRE(length % 8 == 0);
  const auto header = nlohmann::ordered_json::parse(file.substr(8, length));
  CHECK(header.at("__metadata__") == nlohmann::ordered_json{{"format", "pt"}});
  std::pair<std::size_t, std::string> previous{0, ""};
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const auto type = *dtype_named(entry.at("dtype").get<std::string>());
    const std::pair<std::size_t, std::string> key{static_cast<std::size_t>(type), name};
    CHECK(previous < key);
    previous = key;
    if (info(type).bits >= 8)
      CHECK((8 + length + entry.at("data_offsets")[0].get<std::uint64_t>()) %
                (static_cast<std::uint64_t>(info(type).bits) / 8) ==
            0);
  }
}

TEST_CASE("shards are filled in the order of the specs", "[io][writer]") {
  Tensors tensors;
  const std::vector<std::int64_t> sizes{60, 40, 1, 300, 100, 0, 1};  // limit 100: 60+40 | 1 | 300 | 100+0 | 1
  for (std::size_t i = 0; i < sizes.size(); ++i)
    tensors.emplace_back("t" + std::to_string(sizes.size() - i), random_tensor(DType::U8, {sizes[i]}, 7));
  const ScratchDir dir;
  CheckpointWriter writer{dir.path(), specs_of(tensors), 100};
  for (const auto& [name, tensor] : tensors) writer.write(name, tensor.view());
  writer.finish();

  REQUIRE(writer.shards().size() == 5);
  CHECK(writer.shards().front() == "model-00001-of-00005.safetensors");
  const std::vector<std::size_t> expected{0, 0, 1, 2, 3, 3, 4};
  for (std::size_t i = 0; i < tensors.size(); ++i)
    CHECK(writer.shard_of(tensors[i].first) == writer.shards()[expected[i]]);

  const auto index = nlohmann::json::parse(read_file(dir / "model.safetensors.index.json"));
  CHECK(index.at("metadata").at("total_size") == 60 + 40 + 1 + 300 + 100 + 1);
  REQUIRE(index.at("weight_map").size() == tensors.size());
  for (const auto& [name, tensor] : tensors) CHECK(index.at("weight_map").at(name) == writer.shard_of(name));
  check_equal(Checkpoint::open(dir.path()), tensors);
}

TEST_CASE("one shard has no index", "[io][writer]") {
  const ScratchDir dir;
  write_all(dir.path(), {{"a", random_tensor(DType::U8, {100}, 1)}}, 10);  // larger than a shard, alone
  CHECK(files_in(dir.path()).size() == 1);
  CHECK(fs::exists(dir / "model.safetensors"));
}

TEST_CASE("names of any kind come back", "[io][writer]") {
  const Tensors tensors{{"quote\" backslash\\ newline\n", random_tensor(DType::U8, {1}, 1)},
                        {"", random_tensor(DType::U8, {2}, 2)},
                        {"h\xc3\xa9\xf0\x9f\x90\x9f", random_tensor(DType::U8, {3}, 3)}};
  const auto max_shard_bytes = GENERATE(std::uint64_t{1}, std::uint64_t{100});
  const ScratchDir dir;
  write_all(dir.path(), tensors, max_shard_bytes);
  check_equal(Checkpoint::open(dir.path()), tensors);
}

// Whole blocks of large tensors take another way to the disk than their ends.
TEST_CASE("large tensors come back, wherever they begin and end in the file", "[io][writer]") {
  constexpr std::int64_t kBlock = 4096, kMega = std::int64_t{1} << 20;
  const std::int64_t offset =
      GENERATE_COPY(0, 8, kBlock - 8, kBlock);  // what the first one adds to the others
  Tensors tensors{{"a", random_tensor(DType::U8, {kMega + offset}, 1)}};
  unsigned seed = 2;
  for (const std::int64_t size : {kMega / 4 - 8, kMega / 4, kMega - kBlock, kMega, 2 * kMega + kBlock + 24})
    tensors.emplace_back("b" + std::to_string(size), random_tensor(DType::U8, {size}, seed++));
  const ScratchDir dir;
  write_all(dir.path(), tensors, std::uint64_t{1} << 30);
  check_equal(Checkpoint::open(dir.path()), tensors);
}

TEST_CASE("the digests are those of the bytes on disk", "[io][writer]") {
  auto tensors = one_of_each();
  tensors.emplace_back("large", random_tensor(DType::F32, {1000, 777}, 5));
  const ScratchDir dir;
  CheckpointWriter writer{dir.path(), specs_of(tensors), 100'000};
  for (const auto& [name, tensor] : tensors) writer.write(name, tensor.view());
  writer.finish();
  const auto checkpoint = Checkpoint::open(dir.path());
  for (const auto& name : checkpoint.names())
    CHECK(writer.sha256(name) == sha256(checkpoint.tensor(name).data));
  REQUIRE(writer.shards() == checkpoint.shards());
  for (const auto& shard : writer.shards())
    CHECK(writer.header_sha256(shard) == sha256(checkpoint.header_bytes(shard)));
}
