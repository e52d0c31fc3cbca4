// Files that something has happened to are loaded or refused; whatever loads can encode or refuse a text.

#include <random>
#include <string>

#include "tests/support/catch.hpp"
#include "tests/tokenizer/tokenizer_files.hpp"

namespace mpk::test {
namespace {

/// A file that uses most of what a tokenizer.json can have, small enough that mutations hit its structure.
Json dense_file() {
  Json file = Json::parse(R"json({
    "added_tokens": [
      {"id": 7, "content": "<s>", "single_word": false, "lstrip": true, "rstrip": false,
       "normalized": false, "special": true},
      {"id": 8, "content": "Tag", "single_word": true, "lstrip": false, "rstrip": true,
       "normalized": true, "special": false}],
    "normalizer": {"type": "Sequence", "normalizers": [
      {"type": "NFKC"}, {"type": "Lowercase"}, {"type": "Strip", "strip_left": true, "strip_right": false},
      {"type": "Prepend", "prepend": "_"},
      {"type": "Replace", "pattern": {"Regex": "\\s{2,}+|x"}, "content": " "}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "(?i:'s|'ll)|[^\\r\\n\\p{L}]?\\p{L}+|\\s+(?!\\S)|\\s+"},
       "behavior": "MergedWithNext", "invert": false},
      {"type": "Digits", "individual_digits": true},
      {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first", "split": true},
      {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}]},
    "model": {"type": "BPE", "dropout": null, "unk_token": "u", "fuse_unk": true, "byte_fallback": true,
      "ignore_merges": true,
      "vocab": {"u": 0, "a": 1, "b": 2, "ab": 3, "aba": 4, "_": 5, "<0x20>": 6}, "merges": ["a b", ["ab", "a"]]}})json");
  return file;
}

/// One or two edits: a byte replaced, removed, doubled, or a stretch copied elsewhere.
std::string mutated(std::string text, std::mt19937& random) {
  for (unsigned edits = 1 + random() % 2; edits > 0; --edits) {
    const std::size_t at = random() % text.size();
    static constexpr std::string_view kBytes = "{}[]\",:\\()?*+-0123456789.eETtrufnalsp\x7f\xC3 ";
    switch (random() % 5) {
      case 0:
        text[at] = kBytes[random() % kBytes.size()];
        break;
      case 1:
        text.erase(at, 1 + random() % 3);
        break;
      case 2:
        text.insert(at, 1, text[at]);
        break;
      case 3:
        text.insert(at, text.substr(random() % text.size(), random() % 30));
        break;
      default:
        text.insert(at, 1, kBytes[random() % kBytes.size()]);
        break;
    }
  }
  return text;
}

TEST_CASE("a mutated tokenizer.json is loaded or refused", "[tokenizer]") {
  const std::string original = dense_file().dump();
  const std::string text = "Abab <s> tag TAG x  12ab'S \u00e9\u3000\u0301 \U0001F469\u200d\U0001F467\n\n  a";
  REQUIRE_NOTHROW(load_json_text(original)->encode(text));
  int loaded = 0;
  for (unsigned i = 0; i < 400; ++i) {
    std::mt19937 random{i};
    const std::string file = mutated(original, random);
    CAPTURE(file);
    try {
      const auto tokenizer = load_json_text(file);
      ++loaded;
      tokenizer->encode(text);
    } catch (const Error&) {  // an answer; anything else ends the test
    }
  }
  CHECK(loaded > 20);  // else the mutations never reach what lies behind the parser
  CHECK(loaded < 380);
}

/// Structure instead of bytes: a member removed, or exchanged for a value of another kind.
void mutate_structure(Json& value, std::mt19937& random) {
  if (value.is_structured() && !value.empty() && random() % 8 != 0) {
    auto member = value.begin();
    std::advance(member, static_cast<std::ptrdiff_t>(random() % value.size()));
    if (random() % 10 == 0)
      value.erase(member);
    else
      mutate_structure(*member, random);
    return;
  }
  static const Json kValues =
      Json::parse(R"([null, true, 0, -1, 1e300, 4294967296, "", "a", "BPE", [], {}, [[]], ["a"], {"a": 1}])");
  value = kValues[random() % kValues.size()];
}

TEST_CASE("a tokenizer.json with wrong members is loaded or refused", "[tokenizer]") {
  for (unsigned i = 0; i < 400; ++i) {
    std::mt19937 random{i};
    Json file = dense_file();
    for (unsigned edits = 1 + random() % 2; edits > 0; --edits) mutate_structure(file, random);
    CAPTURE(file.dump());
    try {
      load_json(file)->encode("Abab <s> tag x  12'S \u00e9");
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace mpk::test
