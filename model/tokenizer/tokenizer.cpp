#include "model/tokenizer/tokenizer.hpp"

#include <system_error>

#include "model/tokenizer/hugging_face.hpp"
#include "model/tokenizer/sentence_piece.hpp"
#include "packer/format/error.hpp"

namespace mpk {

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& checkpoint_directory) {
  struct Kind {
    const char* file;
    std::unique_ptr<Tokenizer> (*load)(const std::filesystem::path& file);
  };
  static constexpr Kind kKinds[] = {{"tokenizer.json", tok::load_tokenizer_json},
                                    {"tokenizer.model", tok::load_sentence_piece}};
  for (const Kind& kind : kKinds) {
    std::error_code unreadable;  // is for the one who opens the file to report
    const auto file = checkpoint_directory / kind.file;
    if (std::filesystem::exists(file, unreadable) || unreadable) return kind.load(file);
  }
  throw Error{ErrorKind::bad_input,
              checkpoint_directory.string() + " has neither tokenizer.json nor tokenizer.model"};
}

}  // namespace mpk
