// tokenizer.json, then perhaps ff and a text to encode.

#include "model/tokenizer/hugging_face.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace mpk;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [file, text] = fuzz::parts_of(fuzz::text_of(data, size));
  std::unique_ptr<Tokenizer> tokenizer;
  fuzz::succeeds([&, &file = file] { tokenizer = tok::parse_tokenizer_json(file); });
  if (!tokenizer) return 0;
  fuzz::succeeds(
      [&] { tokenizer->encode("Abab <s> tag TAG x  12ab'S \u00e9\u3000\u0301 \U0001F469\n\n  a"); });
  fuzz::succeeds([&, &text = text] { tokenizer->encode(text.substr(0, 256)); });
  return 0;
}
