#include "model/tokenizer/hugging_face.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "model/tokenizer/added_tokens.hpp"
#include "model/tokenizer/bpe.hpp"
#include "model/tokenizer/normalizer.hpp"
#include "model/tokenizer/pre_tokenizer.hpp"
#include "packer/format/error.hpp"
#include "packer/io/json_file.hpp"

namespace mpk::tok {
namespace {

constexpr JsonLimits kLimits{.max_bytes = std::uint64_t{256} << 20, .max_depth = 64};

/// Ids of the words seen so far in a text. Words repeat: most of a text costs one look-up per word.
/// Lives as long as one call, so that encode() is const in earnest and threads share nothing.
class WordCache {
 public:
  WordCache(const Bpe& bpe, std::vector<std::int32_t>& ids) : bpe_{bpe}, ids_{ids} {}

  void append(std::string_view word) {
    if (word.size() > kLongestCached) return bpe_.encode(word, ids_, scratch_);
    if (const auto found = seen_.find(word); found != seen_.end()) {
      const auto [begin, count] = found->second;
      const std::size_t size = ids_.size();
      ids_.resize(size + count);
      std::copy_n(ids_.data() + begin, count, ids_.data() + size);
      return;
    }
    const std::size_t begin = ids_.size();
    bpe_.encode(word, ids_, scratch_);
    seen_.emplace(word, Run{begin, ids_.size() - begin});
  }

 private:
  static constexpr std::size_t kLongestCached = 256;  // bytes; longer words do not come twice
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  struct Run {
    std::size_t begin, count;  // in ids_
  };
  const Bpe& bpe_;
  std::vector<std::int32_t>& ids_;
  Bpe::Scratch scratch_;
  std::unordered_map<std::string, Run, Hash, std::equal_to<>> seen_;
};

class HuggingFaceTokenizer final : public Tokenizer {
 public:
  // Beside these, the file has "truncation" and "padding", which shape batches, "post_processor", which adds
  // the special tokens of a template, and "decoder". None of them changes the ids of a text itself.
  explicit HuggingFaceTokenizer(const Json& file)
      : normalize_{within("normalizer",
                          [&] { return make_normalizer(optional_member(file, "normalizer")); })},
        pre_tokenize_{within("pre_tokenizer",
                             [&] { return make_pre_tokenizer(optional_member(file, "pre_tokenizer")); })},
        bpe_{within("model", [&] { return Bpe::from_json(member(file, "model")); })} {
    within("added_tokens", [&] {
      std::vector<AddedToken> raw, normalized;
      for (AddedToken& token : read_added_tokens(optional_member(file, "added_tokens"), bpe_)) {
        if (!token.normalized) {
          raw.push_back(std::move(token));
          continue;
        }
        Segment content{token.content, false};
        normalize_(content);
        token.content = content.text;
        normalized.push_back(std::move(token));
      }
      in_raw_text_ = AddedTokenMatcher{std::move(raw)};
      in_normalized_text_ = AddedTokenMatcher{std::move(normalized)};
    });
  }

  std::vector<std::int32_t> encode(std::string_view text) const override {
    require_utf8(text, "the text");
    std::vector<std::int32_t> ids;
    WordCache words{bpe_, ids};
    for (const auto& part : in_raw_text_.cut(text)) {
      if (part.id)
        ids.push_back(*part.id);
      else
        encode_segment({std::string{part.span.of(text)}, part.span.begin == 0}, ids, words);
    }
    return ids;
  }

 private:
  void encode_segment(Segment segment, std::vector<std::int32_t>& ids, WordCache& words) const {
    normalize_(segment);
    for (const auto& part : in_normalized_text_.cut(segment.text)) {
      if (part.id)
        ids.push_back(*part.id);
      else
        encode_plain({std::string{part.span.of(segment.text)}, segment.opens_text && part.span.begin == 0},
                     words);
    }
  }
  void encode_plain(Segment segment, WordCache& cache) const {
    Words words{std::move(segment)};
    pre_tokenize_(words);
    for (const auto& word : words.words) cache.append(word.span.of(words.text));
  }

  Normalizer normalize_;
  PreTokenizer pre_tokenize_;
  Bpe bpe_;
  AddedTokenMatcher in_raw_text_{{}}, in_normalized_text_{{}};
};

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer_json(const std::filesystem::path& file) {
  const Json json = read_json_file(file, kLimits);
  return within("file " + file.string(), [&] { return std::make_unique<HuggingFaceTokenizer>(json); });
}

std::unique_ptr<Tokenizer> parse_tokenizer_json(std::string_view text) {
  return std::make_unique<HuggingFaceTokenizer>(parse_json(text, kLimits));
}

}  // namespace mpk::tok
