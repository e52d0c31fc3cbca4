// Merging against the definition: look at all pairs, merge the best, start over.

#include <map>
#include <random>
#include <utility>
#include <vector>

#include "model/tokenizer/bpe.hpp"
#include "tests/support/catch.hpp"
#include "tests/tokenizer/tokenizer_files.hpp"

namespace mpk::test {
namespace {

using Ids = std::vector<std::int32_t>;

/// A model whose merges are drawn at random; two merges never make the same token.
struct RandomModel {
  std::vector<std::string> tokens;
  std::vector<std::pair<std::int32_t, std::int32_t>> merges;  // the i-th makes token num_letters + i
  std::int32_t num_letters = 0;

  RandomModel(std::int32_t letters, int wanted_merges, std::mt19937& random) : num_letters{letters} {
    std::map<std::string, bool> known;
    for (std::int32_t i = 0; i < letters; ++i)
      known[tokens.emplace_back(1, static_cast<char>('a' + i))] = true;
    for (int tries = 0; tries < 20 * wanted_merges && std::ssize(merges) < wanted_merges; ++tries) {
      const auto pick = [&] { return static_cast<std::int32_t>(random() % tokens.size()); };
      const std::int32_t left = pick(), right = pick();
      std::string merged = tokens[static_cast<std::size_t>(left)] + tokens[static_cast<std::size_t>(right)];
      if (merged.size() > 12 || !known.emplace(merged, true).second) continue;
      merges.emplace_back(left, right);
      tokens.push_back(std::move(merged));
    }
  }

  Json json() const {
    Json vocabulary = Json::object(), list = Json::array();
    for (std::size_t i = 0; i < tokens.size(); ++i) vocabulary[tokens[i]] = i;
    for (const auto& [left, right] : merges)
      list.push_back({tokens[static_cast<std::size_t>(left)], tokens[static_cast<std::size_t>(right)]});
    return {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", list}};
  }

  Ids encode_by_definition(const std::string& word) const {
    Ids ids;
    for (const char letter : word) ids.push_back(letter - 'a');
    for (;;) {
      std::size_t best_rank = merges.size(), best_place = 0;
      for (std::size_t i = 0; i + 1 < ids.size(); ++i)
        for (std::size_t rank = 0; rank < best_rank; ++rank)
          if (merges[rank] == std::pair{ids[i], ids[i + 1]}) best_rank = rank, best_place = i;
      if (best_rank == merges.size()) return ids;
      ids[best_place] = num_letters + static_cast<std::int32_t>(best_rank);
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best_place) + 1);
    }
  }
};

Ids encode(const tok::Bpe& bpe, const std::string& word) {
  Ids ids;
  tok::Bpe::Scratch scratch;
  bpe.encode(word, ids, scratch);
  return ids;
}

TEST_CASE("the lowest rank merges first, leftmost among equals", "[tokenizer]") {
  std::mt19937 random{seed()};
  for (int round = 0; round < 60; ++round) {
    const auto letters = static_cast<std::int32_t>(1 + round % 4);  // few letters: many overlapping pairs
    const RandomModel model{letters, 5 + round, random};
    const tok::Bpe bpe = tok::Bpe::from_json(model.json());
    for (const std::size_t length : {0, 1, 2, 3, 7, 40, 150}) {
      std::string word(length, 'a');
      for (char& letter : word)
        letter = static_cast<char>('a' + random() % static_cast<std::uint32_t>(letters));
      CAPTURE(round, word);
      REQUIRE(encode(bpe, word) == model.encode_by_definition(word));
    }
  }
}

TEST_CASE("a word as long as a book merges in n log n", "[tokenizer]") {
  // 1.5 million symbols; the definition would take hours, so the answer is one that can be counted.
  const tok::Bpe bpe = tok::Bpe::from_json(Json::parse(R"({"type": "BPE",
      "vocab": {"a": 0, "aa": 1, "aaaa": 2, "b": 3}, "merges": [["a", "a"], ["aa", "aa"]]})"));
  std::string word;
  constexpr std::size_t kBlocks = 300'000;
  for (std::size_t i = 0; i < kBlocks; ++i) word += "aaaab";
  const Ids ids = encode(bpe, word);
  REQUIRE(ids.size() == 2 * kBlocks);
  for (std::size_t i = 0; i < ids.size(); ++i) REQUIRE(ids[i] == (i % 2 == 0 ? 2 : 3));
}

TEST_CASE("encoding twice, or in parts that words separate, gives the same ids", "[tokenizer]") {
  const auto tokenizer = load_tokenizer(example("tiny-llama"));
  const std::string text = read_file(example("shakespeare-calibration.txt")).substr(0, 100'000);
  const Ids whole = tokenizer->encode(text);
  REQUIRE(tokenizer->encode(text) == whole);
  const auto cut = text.find("\n\n", text.size() / 2) + 2;  // an empty line ends a word whatever follows
  Ids parts = tokenizer->encode(text.substr(0, cut));
  const Ids rest = tokenizer->encode(text.substr(cut));
  parts.insert(parts.end(), rest.begin(), rest.end());
  REQUIRE(parts == whole);
}

}  // namespace
}  // namespace mpk::test
