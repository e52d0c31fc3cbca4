#include "model/tokenizer/bpe.hpp"

#include <algorithm>
#include <limits>
#include <unordered_set>

#include <fmt/format.h>

#include "model/tokenizer/unicode.hpp"
#include "packer/format/error.hpp"
#include "packer/io/printable.hpp"

namespace mpk::tok {
namespace {

constexpr std::int32_t kNone = -1;                                                   // no such token
constexpr std::uint32_t kNowhere = std::numeric_limits<std::uint32_t>::max();        // no such symbol
constexpr std::size_t kLongestWord = std::numeric_limits<std::uint32_t>::max() - 1;  // positions have 32 bits

/// Options that are null, or the value that means the same, in every tokenizer we reproduce.
void refuse_options(const Json& model) {
  if (const Json& dropout = optional_member(model, "dropout"); !dropout.is_null() && dropout != 0.0)
    unsupported("dropout: the ids would be random");
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!optional_member(model, name).is_null() && !string_member(model, name).empty())
      unsupported(fmt::format("{} {}", name, in_quotes(string_member(model, name))));
}

void require_bpe(const Json& model) {
  // The first tokenizer.json files (gpt2's among them) do not say the type; they all were BPE with "merges".
  const Json& type = optional_member(model, "type");
  const std::string name = type.is_null() && model.contains("merges") ? "BPE" : string_member(model, "type");
  if (name != "BPE") unsupported("model " + in_quotes(name));
}

struct Pair {
  std::string_view left, right;
};

/// One merge, written "left right" or ["left", "right"].
Pair merge_pair(const Json& merge) {
  const auto is_string = [](const Json& value) { return value.is_string(); };
  if (merge.is_array() && merge.size() == 2 && std::ranges::all_of(merge, is_string))
    return {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()};
  if (!merge.is_string())
    bad("expected \"left right\" or [\"left\", \"right\"], found " + std::string{merge.type_name()});
  const std::string_view text = merge.get_ref<const std::string&>();
  const auto space = text.find(' ');
  if (space == text.npos || text.find(' ', space + 1) != text.npos)
    bad(in_quotes(text) + " is not two tokens with a space between");
  return {text.substr(0, space), text.substr(space + 1)};
}

}  // namespace

Bpe Bpe::from_json(const Json& model) {
  require_bpe(model);
  refuse_options(model);
  Bpe bpe;
  if (!optional_member(model, "unk_token").is_null()) bpe.unknown_token_ = string_member(model, "unk_token");
  bpe.fuse_unknown_ = bool_member(model, "fuse_unk", false);
  bpe.byte_fallback_ = bool_member(model, "byte_fallback", false);
  bpe.ignore_merges_ = bool_member(model, "ignore_merges", false);
  within("vocab", [&] { bpe.read_vocabulary(member(model, "vocab")); });
  within("merges", [&] { bpe.read_merges(list_member(model, "merges")); });
  return bpe;
}

void Bpe::read_vocabulary(const Json& vocabulary) {
  if (!vocabulary.is_object())
    bad(fmt::format("expected an object of ids by token, found {}", vocabulary.type_name()));
  vocabulary_.reserve(vocabulary.size());
  std::unordered_set<std::int32_t> taken;
  taken.reserve(vocabulary.size());
  for (const auto& entry : vocabulary.items()) {
    const std::string& token = entry.key();
    const std::int32_t id = token_id(entry.value(), [&] { return in_quotes(token); });
    if (!taken.insert(id).second)
      bad(fmt::format("{} and another token both have id {}", in_quotes(token), id));
    vocabulary_.emplace(token, id);
    if (token.empty()) continue;
    std::size_t length = 0;
    const char32_t character = next_code_point(token, length);
    if (length != token.size()) continue;
    if (character >= id_of_character_.size()) id_of_character_.resize(character + 1, kNone);
    id_of_character_[character] = id;
  }
  for (std::size_t byte = 0; byte < id_of_byte_.size(); ++byte)
    id_of_byte_[byte] = id_of(fmt::format("<0x{:02X}>", byte)).value_or(kNone);
}

void Bpe::read_merges(const Json& merges) {
  merges_ = MergeTable{merges.size()};
  merged_by_rank_.reserve(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    // The header of a merges.txt that was taken over line by line.
    if (merges[i].is_string() && merges[i].get_ref<const std::string&>().starts_with("#version")) continue;
    within(fmt::format("merge {}", i), [&] {
      const Pair pair = merge_pair(merges[i]);
      const auto known = [&](std::string_view token) {
        const auto id = id_of(token);
        if (!id) bad(in_quotes(token) + " is not in the vocabulary");
        return *id;
      };
      const std::int32_t left = known(pair.left), right = known(pair.right);
      const std::int32_t merged = known(std::string{pair.left}.append(pair.right));
      merges_.set(left, right, {static_cast<std::uint32_t>(merged_by_rank_.size()), merged});
      merged_by_rank_.push_back(merged);
    });
  }
}

std::optional<std::int32_t> Bpe::id_of(std::string_view token) const {
  const auto found = vocabulary_.find(token);
  return found == vocabulary_.end() ? std::nullopt : std::optional{found->second};
}

std::int32_t Bpe::unknown_id() const {
  const auto id = id_of(*unknown_token_);
  if (!id)
    bad(fmt::format("a character is unknown and unk_token {} is not in the vocabulary",
                    in_quotes(*unknown_token_)));
  return *id;
}

void Bpe::encode(std::string_view word, std::vector<std::int32_t>& ids, Scratch& scratch) const {
  if (word.size() > kLongestWord) unsupported(fmt::format("a word of {} bytes", word.size()));
  if (ignore_merges_) {
    if (const auto id = id_of(word)) {
      ids.push_back(*id);
      return;
    }
  }
  split_into_symbols(word, scratch);
  merge_all(scratch);
  for (const Scratch::Symbol& symbol : scratch.symbols)
    if (symbol.id != kNone) ids.push_back(symbol.id);
}

bool Bpe::append_bytes(std::string_view character, Scratch& scratch) const {
  const auto id = [&](char byte) { return id_of_byte_[static_cast<unsigned char>(byte)]; };
  if (std::ranges::any_of(character, [&](char byte) { return id(byte) == kNone; })) return false;
  for (const char byte : character) scratch.symbols.push_back({id(byte), 0, 0});
  return true;
}

void Bpe::split_into_symbols(std::string_view word, Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  symbols.clear();
  // An unknown character waits for the next one, which it may have to be fused with. Hugging Face lets it
  // wait even past characters that fall back to bytes, and so it stands behind their bytes here too.
  std::int32_t waiting = kNone;
  const auto flush = [&] {
    if (waiting != kNone) symbols.push_back({waiting, 0, 0});
    waiting = kNone;
  };
  for (std::size_t begin = 0, end = 0; begin < word.size(); begin = end) {
    const char32_t character = next_code_point(word, end);
    const std::int32_t id = character < id_of_character_.size() ? id_of_character_[character] : kNone;
    if (id != kNone) {
      flush();
      symbols.push_back({id, 0, 0});
    } else if (!(byte_fallback_ && append_bytes(word.substr(begin, end - begin), scratch)) &&
               unknown_token_) {
      if (!fuse_unknown_) flush();
      waiting = unknown_id();
    }  // without an unk_token, the character is dropped
  }
  flush();
}

void Bpe::merge_all(Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  const auto num_symbols = static_cast<std::uint32_t>(symbols.size());
  for (std::uint32_t i = 0; i < num_symbols; ++i) {
    symbols[i].previous = i == 0 ? kNowhere : i - 1;
    symbols[i].next = i + 1 == num_symbols ? kNowhere : i + 1;
  }

  // Candidates in the order in which they merge: by rank, then from left to right. A candidate is not
  // withdrawn when one of its symbols merges elsewhere; it is recognised when its turn comes.
  auto& queue = scratch.queue;
  queue.clear();
  const auto candidate = [&](std::uint32_t left, std::uint32_t right) -> std::optional<std::uint64_t> {
    const Merge* merge = merges_.find(symbols[left].id, symbols[right].id);
    if (!merge) return std::nullopt;
    return std::uint64_t{merge->rank} << 32 | left;
  };
  const auto push = [&](std::uint32_t left, std::uint32_t right) {
    if (left == kNowhere || right == kNowhere) return;
    if (const auto entry = candidate(left, right)) {
      queue.push_back(*entry);
      std::ranges::push_heap(queue, std::greater<>{});
    }
  };
  for (std::uint32_t i = 0; i + 1 < num_symbols; ++i)
    if (const auto entry = candidate(i, i + 1)) queue.push_back(*entry);
  std::ranges::make_heap(queue, std::greater<>{});

  while (!queue.empty()) {
    std::ranges::pop_heap(queue, std::greater<>{});
    const auto left = static_cast<std::uint32_t>(queue.back());
    const std::int32_t merged = merged_by_rank_[queue.back() >> 32];
    queue.pop_back();

    auto& symbol = symbols[left];
    if (symbol.id == kNone || symbol.next == kNowhere) continue;
    // The test is Hugging Face's: not whether this is still the same pair, but whether it would become the
    // same token.
    const auto right = symbol.next;
    const Merge* merge = merges_.find(symbol.id, symbols[right].id);
    if (!merge || merge->merged != merged) continue;

    symbol.id = merged;
    symbol.next = symbols[right].next;
    symbols[right].id = kNone;
    if (symbol.next != kNowhere) symbols[symbol.next].previous = left;
    push(symbol.previous, left);
    push(left, symbol.next);
  }
}

}  // namespace mpk::tok
