#include "model/tokenizer/sentence_piece.hpp"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sentencepiece_processor.h>

#include "model/tokenizer/added_tokens.hpp"
#include "model/tokenizer/json_spec.hpp"
#include "model/tokenizer/unicode.hpp"
#include "packer/io/printable.hpp"

namespace mpk::tok {
namespace {

class SentencePieceTokenizer final : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(const std::filesystem::path& file) {
    if (const auto status = processor_.Load(file.string()); !status.ok())
      bad("file " + file.string() + " is not a SentencePiece model: " + printable(status.ToString()));
    std::vector<AddedToken> symbols;  // user-defined ones, the library finds itself
    for (int id = 0; id < processor_.GetPieceSize(); ++id)
      if ((processor_.IsControl(id) || processor_.IsUnknown(id)) && !processor_.IdToPiece(id).empty())
        symbols.push_back({.content = processor_.IdToPiece(id), .id = id, .special = true});
    symbols_ = AddedTokenMatcher{std::move(symbols)};
  }

  std::vector<std::int32_t> encode(std::string_view text) const override {
    require_utf8(text, "the text");
    std::vector<std::int32_t> ids;
    for (const auto& part : symbols_.cut(text)) {
      if (part.id)
        ids.push_back(*part.id);
      else
        append_plain(part.span.of(text), ids);
    }
    return ids;
  }

 private:
  void append_plain(std::string_view text, std::vector<std::int32_t>& ids) const {
    std::vector<int> pieces;
    if (const auto status = processor_.Encode({text.data(), text.size()}, &pieces); !status.ok())
      bad("SentencePiece cannot encode the text: " + printable(status.ToString()));
    ids.insert(ids.end(), pieces.begin(), pieces.end());
  }

  sentencepiece::SentencePieceProcessor processor_;
  AddedTokenMatcher symbols_{{}};
};

}  // namespace

std::unique_ptr<Tokenizer> load_sentence_piece(const std::filesystem::path& file) {
  return std::make_unique<SentencePieceTokenizer>(file);
}

}  // namespace mpk::tok
