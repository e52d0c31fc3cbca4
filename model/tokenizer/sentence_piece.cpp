#include "model/tokenizer/sentence_piece.hpp"

#include <string>
#include <vector>

#include <sentencepiece_processor.h>

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
  }

  std::vector<std::int32_t> encode(std::string_view text) const override {
    require_utf8(text, "the text");
    std::vector<int> ids;
    if (const auto status = processor_.Encode({text.data(), text.size()}, &ids); !status.ok())
      bad("SentencePiece cannot encode the text: " + printable(status.ToString()));
    return {ids.begin(), ids.end()};
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace

std::unique_ptr<Tokenizer> load_sentence_piece(const std::filesystem::path& file) {
  return std::make_unique<SentencePieceTokenizer>(file);
}

}  // namespace mpk::tok
