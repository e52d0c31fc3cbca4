// For each thing a tokenizer.json can get wrong or we cannot reproduce: the kind of error, and that it says
// where.

#include <string>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/tokenizer/tokenizer_files.hpp"

namespace mpk::test {
namespace {

struct Refusal {
  const char* patch;   // a JSON merge patch of the byte-level base
  const char* saying;  // part of the message
};

void require_refusals(const std::vector<Refusal>& refusals, ErrorKind kind) {
  for (const Refusal& refusal : refusals) {
    Json file = base_tokenizer("byte_level");
    file.merge_patch(Json::parse(refusal.patch));
    CAPTURE(refusal.patch);
    const auto error = error_of([&] { load_json(file); });
    REQUIRE(error);
    const std::string what = error->what();
    CAPTURE(what);
    CHECK(error->kind() == kind);
    CHECK(what.find(refusal.saying) != what.npos);
    CHECK(what.find("tokenizer.json") != what.npos);
  }
}

TEST_CASE("components that cannot be reproduced are named", "[tokenizer]") {
  require_refusals(
      {
          {R"({"model": {"type": "WordPiece"}})", "WordPiece"},
          {R"({"model": {"type": "Unigram"}})", "Unigram"},
          {R"({"model": {"type": "WordLevel"}})", "WordLevel"},
          {R"({"model": {"dropout": 0.1}})", "dropout"},
          {R"({"model": {"continuing_subword_prefix": "##"}})", "continuing_subword_prefix"},
          {R"({"model": {"end_of_word_suffix": "</w>"}})", "end_of_word_suffix"},
          {R"({"normalizer": {"type": "Precompiled", "precompiled_charsmap": ""}})", "Precompiled"},
          {R"({"normalizer": {"type": "BertNormalizer"}})", "BertNormalizer"},
          {R"({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Nmt"}]}})",
           "step 1"},
          {R"({"normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": "x"}})", "empty text"},
          {R"({"pre_tokenizer": {"type": "Whitespace"}})", "Whitespace"},
          {R"({"pre_tokenizer": {"type": "Split", "pattern": {"String": "a"}, "behavior": "Doubled", "invert": false}})",
           "Doubled"},
          {R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"}})",
           "last"},
      },
      ErrorKind::unsupported);
}

TEST_CASE("a malformed tokenizer.json is refused, with the place", "[tokenizer]") {
  require_refusals(
      {
          {R"({"model": null})", "\"model\" is missing"},
          {R"({"model": {"vocab": null}})", "\"vocab\" is missing"},
          {R"({"model": {"vocab": [1, 2]}})", "vocab"},
          {R"({"model": {"vocab": {"new": -1}}})", "\"new\" is -1"},
          {R"({"model": {"vocab": {"new": 1.5}}})", "\"new\" is 1.5"},
          {R"({"model": {"vocab": {"new": "7"}}})", "\"new\" is string"},
          {R"({"model": {"vocab": {"new": 2147483648}}})", "\"new\" is 2147483648"},
          {R"({"model": {"vocab": {"new": 18446744073709551615}}})", "\"new\" is 18446744073709551615"},
          {R"({"model": {"vocab": {"new": 0}}})", "both have id 0"},
          {R"({"model": {"merges": null}})", "\"merges\" is missing"},
          {R"({"model": {"merges": {}}})", "\"merges\" is object"},
          {R"({"model": {"merges": ["t h", "a nowhere"]}})", "in merge 1"},
          {R"({"model": {"merges": ["a"]}})", "not two tokens"},
          {R"({"model": {"merges": ["a b c"]}})", "not two tokens"},
          {R"({"model": {"merges": [["a"]]}})", "in merge 0"},
          {R"({"model": {"merges": [["a", 1]]}})", "in merge 0"},
          {R"({"model": {"merges": [7]}})", "in merge 0"},
          {R"({"model": {"merges": ["z q"]}})", "\"zq\" is not in the vocabulary"},
          {R"({"model": {"fuse_unk": 1}})", "fuse_unk"},
          {R"({"model": {"unk_token": 1}})", "unk_token"},
          {R"({"model": {"type": 1}})", "\"type\""},
          {R"({"normalizer": "NFC"})", "in normalizer"},
          {R"({"normalizer": {}})", "\"type\" is missing"},
          {R"({"normalizer": {"type": "Strip"}})", "strip_left"},
          {R"({"normalizer": {"type": "Sequence"}})", "normalizers"},
          {R"({"pre_tokenizer": {"type": "ByteLevel"}})", "add_prefix_space"},
          {R"({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}})",
           "in pre_tokenizer Split"},
          {R"({"pre_tokenizer": {"type": "Split", "pattern": "a", "behavior": "Isolated", "invert": false}})",
           "pattern"},
          {R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "__"}})", "one character"},
          {R"({"pre_tokenizer": {"type": "Metaspace", "replacement": ""}})", "one character"},
          {R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first",
               "add_prefix_space": false}})",
           "prepend_scheme"},
          {R"({"added_tokens": {}})", "in added_tokens"},
          {R"({"added_tokens": [{"id": 700, "content": "x"}]})", "in entry 0"},
          {R"({"added_tokens": [{"id": 9, "content": "brand-new", "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true}]})",
           "next free id"},
          {R"({"added_tokens": [{"id": 9999, "content": "a", "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true}]})",
           "the vocabulary gives it"},
      },
      ErrorKind::bad_input);
}

TEST_CASE("what is no tokenizer at all is refused", "[tokenizer]") {
  for (const std::string text : {"", "{", "[]", "null", "7", "{\"model\": 1}", "{\"model\": {}}"}) {
    CAPTURE(text);
    const auto error = error_of([&] { load_json_text(text); });
    REQUIRE(error);
    CHECK(error->kind() == ErrorKind::bad_input);
  }
  const auto error = error_of([] { load_json_text(R"({"model": {"a": 1, "a": 2}})"); });
  REQUIRE(error);
  CHECK(std::string{error->what()}.find("repeated") != std::string::npos);
  const ScratchDir empty;
  REQUIRE(error_of([&] { load_tokenizer(empty.path()); })->kind() == ErrorKind::bad_input);
}

TEST_CASE("text that is not UTF-8 is refused, with the offset", "[tokenizer]") {
  const auto tokenizer = load_json(base_tokenizer("byte_level"));
  for (const std::string invalid : {"\x80", "\xC3", "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xFF"}) {
    const auto error = error_of([&] { tokenizer->encode("abc" + invalid); });
    REQUIRE(error);
    CHECK(error->kind() == ErrorKind::bad_input);
    CHECK(std::string{error->what()}.find("offset 3") != std::string::npos);
  }
}

TEST_CASE("an unk_token outside of the vocabulary matters only when it is needed", "[tokenizer]") {
  Json file = base_tokenizer("metaspace");
  file.merge_patch(Json::parse(R"({"model": {"unk_token": "<nowhere>", "byte_fallback": false}})"));
  const auto tokenizer = load_json(file);
  CHECK(tokenizer->encode("the").size() > 0);
  CHECK(error_of([&] { tokenizer->encode("\U0001F1E6"); })->kind() == ErrorKind::bad_input);
}

}  // namespace
}  // namespace mpk::test
