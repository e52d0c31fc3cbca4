// Directories, shards and indexes.

#include <sys/stat.h>

#include "packer/io/checkpoint.hpp"
#include "tests/io/container.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;
namespace fs = std::filesystem;

namespace {

/// A file of one U8 tensor per name, holding the name.
std::string shard_with(const std::vector<std::string>& names) {
  std::string entries, data;
  for (const auto& name : names) {
    entries += (entries.empty() ? "" : ",") + u8_entry(name, data.size(), data.size() + name.size());
    data += name;
  }
  return container(fmt::format("{{{}}}", entries), data);
}

std::string index_with(const std::string& weight_map, const std::string& metadata = R"({"total_size":9})") {
  return R"({"metadata":)" + metadata + R"(,"weight_map":)" + weight_map + '}';
}

void refused(const fs::path& path, const std::vector<std::string>& parts) {
  require_error(ErrorKind::bad_input, parts, [&] { Checkpoint::open(path); });
}

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kShard1 = "model-00001-of-00002.safetensors";
constexpr const char* kShard2 = "model-00002-of-00002.safetensors";

/// Tensors a and c in the first shard, b in the second.
void write_sharded(const ScratchDir& dir) {
  write_file(dir / kShard1, shard_with({"a", "c"}));
  write_file(dir / kShard2, shard_with({"b"}));
  write_file(dir / kIndex,
             index_with(R"({"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors",)"
                        R"("c":"model-00001-of-00002.safetensors"})"));
}

void check_abc(const Checkpoint& checkpoint) {
  CHECK(checkpoint.names() == std::vector<std::string>{"a", "b", "c"});
  for (const auto& name : checkpoint.names()) CHECK(text_of(checkpoint.tensor(name).data) == name);
}

}  // namespace

TEST_CASE("a checkpoint opens in each of its forms", "[io][checkpoint]") {
  const ScratchDir dir;
  SECTION("one file in a directory") {
    write_file(dir / "model.safetensors", shard_with({"b", "a", "c"}));
    check_abc(Checkpoint::open(dir.path()));
    CHECK(Checkpoint::open(dir.path()).shards() == std::vector<std::string>{"model.safetensors"});
  }
  SECTION("one file, named") {
    write_file(dir / "other.safetensors", shard_with({"b", "a", "c"}));
    write_file(dir / "model.safetensors", shard_with({"x"}));
    const auto checkpoint = Checkpoint::open(dir / "other.safetensors");
    check_abc(checkpoint);
    CHECK(checkpoint.directory() == dir.path());
    CHECK(checkpoint.shards() == std::vector<std::string>{"other.safetensors"});
  }
  SECTION("shards and index") {
    write_sharded(dir);
    write_file(dir / "consolidated.safetensors", shard_with({"other.a"}));  // another form of the same model
    const auto checkpoint = Checkpoint::open(dir.path());
    check_abc(checkpoint);
    CHECK(checkpoint.shards() == std::vector<std::string>{kShard1, kShard2});
    CHECK(checkpoint.shard_of("c") == kShard1);
    CHECK(checkpoint.shard_of("b") == kShard2);
  }
  SECTION("an index that lists the single file") {
    write_file(dir / "model.safetensors", shard_with({"a", "b", "c"}));
    write_file(dir / kIndex,
               index_with(R"({"a":"model.safetensors","b":"model.safetensors","c":"model.safetensors"})"));
    check_abc(Checkpoint::open(dir.path()));
  }
  SECTION("files of any name and no index") {
    write_file(dir / "second.safetensors", shard_with({"a"}));
    write_file(dir / "first.safetensors", shard_with({"b", "c"}));
    write_file(dir / "._first.safetensors", "left by a file manager");
    const auto checkpoint = Checkpoint::open(dir.path());
    check_abc(checkpoint);
    CHECK(checkpoint.shards() == std::vector<std::string>{"first.safetensors", "second.safetensors"});
  }
  SECTION("a total_size that is wrong or absent changes nothing") {
    write_sharded(dir);
    auto index = read_file(dir / kIndex);
    index.replace(index.find("9"), 1, "\"many\"");
    write_file(dir / kIndex, index);
    check_abc(Checkpoint::open(dir.path()));
  }
}

TEST_CASE("header bytes and tensors make up the whole file", "[io][checkpoint]") {
  const ScratchDir dir;
  write_sharded(dir);
  const auto checkpoint = Checkpoint::open(dir.path());
  CHECK(text_of(checkpoint.header_bytes(kShard1)) + "ac" == read_file(dir / kShard1));
  require_error(ErrorKind::bad_input, {"\"x\""}, [&] { checkpoint.header_bytes("x"); });
}

TEST_CASE("views outlive the object they came from while a copy lives", "[io][checkpoint]") {
  const ScratchDir dir;
  write_sharded(dir);
  auto first = std::make_unique<Checkpoint>(Checkpoint::open(dir.path()));
  const Checkpoint copy = *first;
  const auto view = first->tensor("a");
  first.reset();
  fs::remove(dir / kShard1);
  CHECK(text_of(view.data) == "a");
}

TEST_CASE("tensors are found by name and described", "[io][checkpoint]") {
  const ScratchDir dir;
  write_sharded(dir);
  const auto checkpoint = Checkpoint::open(dir.path());
  CHECK(checkpoint.contains("a"));
  CHECK_FALSE(checkpoint.contains("d"));
  CHECK(checkpoint.where("b") == "tensor b (1) U8 in file " + (dir / kShard2).string());
  require_error(ErrorKind::bad_input, {"no tensor \"d\"", dir.path().string()},
                [&] { checkpoint.tensor("d"); });
}

TEST_CASE("the index and the shards must agree both ways", "[io][checkpoint]") {
  const ScratchDir dir;
  write_sharded(dir);
  const auto shard1 = fmt::format("\"{}\"", kShard1), shard2 = fmt::format("\"{}\"", kShard2);
  const auto with_index = [&](const std::string& weight_map, const std::vector<std::string>& parts) {
    write_file(dir / kIndex, index_with(weight_map));
    refused(dir.path(), parts);
  };
  SECTION("an entry without tensor") {
    with_index(R"({"a":)" + shard1 + R"(,"b":)" + shard2 + R"(,"c":)" + shard1 + R"(,"d":)" + shard1 + '}',
               {"\"d\"", kShard1, "no such tensor"});
  }
  SECTION("a tensor without entry") {
    with_index(R"({"a":)" + shard1 + R"(,"b":)" + shard2 + '}', {"\"c\"", kShard1, "not in the index"});
  }
  SECTION("an entry for the wrong shard") {
    with_index(R"({"a":)" + shard2 + R"(,"b":)" + shard2 + R"(,"c":)" + shard1 + '}',
               {"\"a\"", kShard1, kShard2});
  }
  SECTION("a tensor in two shards") {
    write_file(dir / kShard2, shard_with({"b", "a"}));
    refused(dir.path(), {"\"a\"", "two files", kShard1, kShard2});
  }
  SECTION("a listed shard is missing") {
    fs::remove(dir / kShard2);
    refused(dir.path(), {kIndex, kShard2, "download"});
  }
  SECTION("a shard is not listed") {
    write_file(dir / "model-00003-of-00003.safetensors", shard_with({"d"}));
    refused(dir.path(), {"model-00003-of-00003.safetensors", kIndex});
  }
  SECTION("a single file beside it is not listed") {
    write_file(dir / "model.safetensors", shard_with({"a"}));
    refused(dir.path(), {"model.safetensors", kIndex, "disagree"});
  }
  SECTION("repeated entries") {
    with_index(R"({"a":)" + shard1 + R"(,"a":)" + shard2 + '}', {"\"a\"", "repeated", kIndex});
  }
  SECTION("no weight_map") {
    write_file(dir / kIndex, R"({"metadata":{}})");
    refused(dir.path(), {kIndex, "weight_map"});
  }
  SECTION("an empty weight_map") {
    with_index("{}", {kIndex, "empty"});
  }
  SECTION("an entry that is no string") {
    with_index(R"({"a":1})", {kIndex, "\"a\""});
  }
  SECTION("not JSON") {
    write_file(dir / kIndex, "{");
    refused(dir.path(), {kIndex, "JSON"});
  }
}

TEST_CASE("an index leads to no other directory", "[io][checkpoint]") {
  const ScratchDir dir;
  const auto home = dir / "checkpoint";
  write_file(dir / "outside.safetensors", shard_with({"a"}));
  const auto outside = fs::absolute(dir / "outside.safetensors").string();
  const std::vector<std::pair<std::string, std::string>> names{{"absolute", outside},
                                                               {"upwards", "../outside.safetensors"},
                                                               {"into a subdirectory", "sub/x.safetensors"},
                                                               {"the parent", ".."},
                                                               {"empty", ""},
                                                               {"with NUL", "x\\u0000.safetensors"}};
  for (const auto& [title, name] : names) {
    DYNAMIC_SECTION(title) {
      write_file(home / kIndex, index_with(R"({"a":")" + name + "\"}"));
      refused(home, {kIndex, "\"a\"", "plain file name"});
    }
  }
  SECTION("nor to a file that is no shard") {
    write_file(home / kIndex, index_with(R"({"a":"config.json"})"));
    refused(home, {kIndex, "config.json"});
  }
}

TEST_CASE("symbolic links may not leave the directory", "[io][checkpoint]") {
  const ScratchDir dir;
  const auto home = dir / "checkpoint";
  fs::create_directories(home);
  SECTION("a link to elsewhere") {
    write_file(dir / "outside.safetensors", shard_with({"a"}));
    fs::create_symlink("../outside.safetensors", home / "model.safetensors");
    refused(home, {"model.safetensors", "leaves its directory"});
    CHECK_NOTHROW(Checkpoint::open(home / "model.safetensors"));  // spelt out by the user
  }
  SECTION("a link to a neighbour whose name merely begins alike") {
    write_file(dir / "checkpoint2" / "x.safetensors", shard_with({"a"}));
    fs::create_symlink("../checkpoint2/x.safetensors", home / "model.safetensors");
    refused(home, {"model.safetensors", "leaves its directory"});
  }
  SECTION("a link to nowhere") {
    fs::create_symlink("gone", home / "model.safetensors");
    refused(home, {"model.safetensors", "leads nowhere"});
  }
  SECTION("a link within") {
    write_file(home / "weights.data", shard_with({"a"}));
    fs::create_symlink("weights.data", home / "model.safetensors");
    CHECK_NOTHROW(Checkpoint::open(home));
  }
  SECTION("a snapshot of the Hugging Face cache is made of links to its blobs") {
    const auto snapshot = dir / "models--a--b" / "snapshots" / "0123abcd";
    write_file(dir / "models--a--b" / "blobs" / "77", shard_with({"a"}));
    write_file(dir / "models--a--b" / "blobs" / "78", R"({"model_type":"llama"})");
    fs::create_directories(snapshot);
    fs::create_symlink("../../blobs/77", snapshot / "model.safetensors");
    fs::create_symlink("../../blobs/78", snapshot / "config.json");
    const auto checkpoint = Checkpoint::open(snapshot);
    CHECK(checkpoint.config().at("model_type") == "llama");
    CHECK(checkpoint.side_files() == std::vector<std::string>{"config.json"});
  }
  SECTION("a side file that leads out is not handed over for copying") {
    write_file(home / "model.safetensors", shard_with({"a"}));
    write_file(dir / "secret", "s");
    fs::create_symlink("../secret", home / "notes.txt");
    const auto checkpoint = Checkpoint::open(home);
    require_error(ErrorKind::bad_input, {"notes.txt", "leaves"}, [&] { checkpoint.side_files(); });
  }
}

TEST_CASE("what is no checkpoint is told apart", "[io][checkpoint]") {
  const ScratchDir dir;
  refused(dir / "absent", {"absent", "does not exist"});
  refused(dir.path(), {dir.path().string(), "empty"});
  write_file(dir / "README.md", "text");
  refused(dir.path(), {"no .safetensors file", "model.safetensors"});
  write_file(dir / "pytorch_model.bin", "PK");
  refused(dir.path(), {"pytorch_model.bin", "convert"});
  refused(dir / "README.md", {"README.md", "neither"});
  write_file(dir / kIndex, index_with("{}"));
  refused(dir / kIndex, {"directory that holds it"});
  fs::remove(dir / kIndex);
  write_file(dir / kShard1, shard_with({"a"}));
  refused(dir.path(), {kShard2, "missing"});
  write_file(dir / kShard2, shard_with({"a"}));
  refused(dir.path(), {"\"a\"", "two files"});
  write_file(dir / "model.safetensors", shard_with({"a"}));
  refused(dir.path(), {kShard1, "account"});
}

TEST_CASE("config.json is read or refused", "[io][checkpoint]") {
  const ScratchDir dir;
  write_file(dir / "model.safetensors", shard_with({"a"}));
  CHECK(Checkpoint::open(dir.path()).config().is_null());
  write_file(dir / "config.json", R"({"hidden_size": 64})");
  CHECK(Checkpoint::open(dir.path()).config().at("hidden_size") == 64);
  CHECK(Checkpoint::open(dir / "model.safetensors").config().at("hidden_size") == 64);
  for (const std::string& bad :
       {std::string{"[]"}, std::string{"{"}, std::string{R"({"a":1,"a":1})"},
        std::string(100, '[') + std::string(100, ']'), std::string((16 << 20) + 1, ' ')}) {
    write_file(dir / "config.json", bad);
    refused(dir.path(), {"config.json"});
  }
}

TEST_CASE("side files are what a derived checkpoint carries over", "[io][checkpoint]") {
  const ScratchDir dir;
  write_sharded(dir);
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer.model", "chat_template.jinja",
                           "LICENSE", "merges.txt", "generation_config.json"})
    write_file(dir / name, "{}");
  for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json", "old.pt", "old.pth", "m.gguf",
                           "tf.h5", "flax.msgpack", "m.onnx", "consolidated.safetensors", ".gitattributes",
                           "marlin_pack.json", "original/params.json"})
    write_file(dir / name, "{}");
  CHECK(Checkpoint::open(dir.path()).side_files() ==
        std::vector<std::string>{"LICENSE", "chat_template.jinja", "config.json", "generation_config.json",
                                 "merges.txt", "tokenizer.json", "tokenizer.model"});
}
