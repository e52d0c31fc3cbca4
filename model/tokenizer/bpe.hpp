#pragma once
// Byte-pair encoding: a word becomes characters, and neighbours merge, the best-ranked pair of all first.

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/tokenizer/json_spec.hpp"
#include "model/tokenizer/merge_table.hpp"

namespace mpk::tok {

class Bpe {
 public:
  /// From the "model" of a tokenizer.json. Throws Error{bad_input} if it contradicts itself,
  /// Error{unsupported} for other models and for options (dropout, subword prefix, word suffix) that change
  /// what is computed here.
  static Bpe from_json(const Json& model);

  /// Memory that words take turns in.
  class Scratch {
    friend class Bpe;
    struct Symbol {
      std::int32_t id;
      std::uint32_t previous, next;
    };
    std::vector<Symbol> symbols;
    std::vector<std::uint64_t> queue;
  };

  /// Appends the ids of a word of UTF-8.
  void encode(std::string_view word, std::vector<std::int32_t>& ids, Scratch& scratch) const;

  std::optional<std::int32_t> id_of(std::string_view token) const;
  /// Number of tokens; the first id that an added token may take.
  std::size_t vocabulary_size() const { return vocabulary_.size(); }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };

  void read_vocabulary(const Json& vocabulary);
  void read_merges(const Json& merges);
  void split_into_symbols(std::string_view word, Scratch& scratch) const;
  void merge_all(Scratch& scratch) const;
  bool append_bytes(std::string_view character, Scratch& scratch) const;
  std::int32_t unknown_id() const;

  std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>> vocabulary_;
  std::vector<std::int32_t> id_of_character_;  // by code point; kNone: not in the vocabulary
  std::array<std::int32_t, 256> id_of_byte_;   // of the tokens <0x00> to <0xFF>
  MergeTable merges_;
  std::vector<std::int32_t> merged_by_rank_;
  std::optional<std::string> unknown_token_;
  bool fuse_unknown_ = false, byte_fallback_ = false, ignore_merges_ = false;
};

}  // namespace mpk::tok
