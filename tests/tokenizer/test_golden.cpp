// Ids that Hugging Face tokenizers and SentencePiece gave (tests/golden/make_tokenizer_golden.py), and ours.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "packer/io/sha256.hpp"
#include "tests/support/catch.hpp"
#include "tests/tokenizer/tokenizer_files.hpp"

namespace mpk::test {
namespace {

using Ids = std::vector<std::int32_t>;

const std::vector<std::string>& corpus() {
  static const std::vector<std::string> kTexts = golden_json("corpus.json");
  return kTexts;
}

std::string sha256_of_ids(const Ids& ids) {
  return sha256(std::as_bytes(std::span{ids}));
}  // int32 little-endian

TEST_CASE("variants of tokenizer.json give the ids that Hugging Face gives", "[tokenizer]") {
  for (const Json& golden_case : golden_json("cases.json")) {
    Json file = base_tokenizer(golden_case["base"]);
    file.merge_patch(golden_case["patch"]);
    const auto tokenizer = load_json(file);
    for (std::size_t i = 0; i < golden_case["texts"].size(); ++i) {
      const std::string& text = corpus()[golden_case["texts"][i].get<std::size_t>()];
      CAPTURE(golden_case["name"].get<std::string>(), text);
      CHECK(tokenizer->encode(text) == golden_case["ids"][i].get<Ids>());
    }
  }
}

TEST_CASE("the tokenizer of examples/tiny-llama gives the ids that Hugging Face gives", "[tokenizer]") {
  const auto tokenizer = load_tokenizer(example("tiny-llama"));
  const Json expected = golden_json("tiny-llama.json");
  REQUIRE(expected["ids"].size() == corpus().size());
  for (std::size_t i = 0; i < corpus().size(); ++i) {
    CAPTURE(corpus()[i]);
    CHECK(tokenizer->encode(corpus()[i]) == expected["ids"][i].get<Ids>());
  }
  for (const auto& [file, stream] : expected["streams"].items()) {
    CAPTURE(file);
    const Ids ids = load_tokens(example(file), example("tiny-llama"));
    CHECK(ids.size() == stream["num_ids"].get<std::size_t>());
    CHECK(sha256_of_ids(ids) == stream["sha256"].get<std::string>());
  }
}

TEST_CASE("tokenizer.model gives the ids that SentencePiece gives", "[tokenizer]") {
  const Json expected = golden_json("sentencepiece.json");
  for (const std::string kind : {"bpe", "unigram"}) {
    const ScratchDir directory;
    std::filesystem::copy_file(golden("tokenizer/" + kind + ".model"), directory / "tokenizer.model");
    const auto tokenizer = load_tokenizer(directory.path());
    for (std::size_t i = 0; i < corpus().size(); ++i) {
      if (expected[kind][i].is_null()) continue;  // versions of the library differ
      CAPTURE(kind, corpus()[i]);
      CHECK(tokenizer->encode(corpus()[i]) == expected[kind][i].get<Ids>());
    }
  }
}

TEST_CASE("tokenizer.json goes before tokenizer.model", "[tokenizer]") {
  const ScratchDir directory;
  write_file(directory / "tokenizer.model", "not a model");
  REQUIRE(error_of([&] { load_tokenizer(directory.path()); })->kind() == ErrorKind::bad_input);
  write_file(directory / "tokenizer.json", base_tokenizer("byte_level").dump());
  REQUIRE_NOTHROW(load_tokenizer(directory.path()));
}

}  // namespace
}  // namespace mpk::test
