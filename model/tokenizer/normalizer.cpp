#include "model/tokenizer/normalizer.hpp"

#include <vector>

#include <fmt/format.h>

#include "model/tokenizer/regex.hpp"
#include "model/tokenizer/unicode.hpp"
#include "packer/format/error.hpp"
#include "packer/io/printable.hpp"

namespace mpk::tok {
namespace {

template <NormalForm kForm>
Normalizer unicode_form(const Json&) {
  return [](Segment& segment) { segment.text = normal_form(segment.text, kForm); };
}

Normalizer lowercase(const Json&) {
  return [](Segment& segment) { segment.text = lower_case(segment.text); };
}

Normalizer strip(const Json& spec) {
  const bool left = bool_member(spec, "strip_left"), right = bool_member(spec, "strip_right");
  return [left, right](Segment& segment) {
    std::string& text = segment.text;
    std::size_t begin = 0, end = text.size();
    for (std::size_t next = 0; left && next < end; begin = next)
      if (!is_white_space(next_code_point(text, next))) break;
    while (right && end > begin) {
      const std::size_t last = previous_boundary(text, end);
      std::size_t next = last;
      if (!is_white_space(next_code_point(text, next))) break;
      end = last;
    }
    if (begin > 0) segment.opens_text = false;
    text = text.substr(begin, end - begin);
  };
}

Normalizer prepend(const Json& spec) {
  return [prefix = string_member(spec, "prepend")](Segment& segment) {
    if (!segment.text.empty()) segment.text.insert(0, prefix);
  };
}

Normalizer replace(const Json& spec) {
  const Regex pattern = Regex::from_json(member(spec, "pattern"));
  if (pattern.can_be_empty()) unsupported("replacing a pattern that can match the empty text");
  return [pattern, content = string_member(spec, "content")](Segment& segment) {
    const std::vector<Span> matches = pattern.find_all(segment.text);
    if (matches.empty()) return;
    if (matches.front().begin == 0 && content.empty()) segment.opens_text = false;
    std::string replaced;
    std::size_t done = 0;
    for (const Span& match : matches) {
      replaced.append(segment.text, done, match.begin - done).append(content);
      done = match.end;
    }
    segment.text = replaced.append(segment.text, done);
  };
}

Normalizer sequence(const Json& spec) {
  std::vector<Normalizer> steps;
  for (const Json& step : list_member(spec, "normalizers"))
    steps.push_back(
        within(fmt::format("step {} of the Sequence", steps.size()), [&] { return make_normalizer(step); }));
  return [steps = std::move(steps)](Segment& segment) {
    for (const Normalizer& step : steps) step(segment);
  };
}

struct Row {
  const char* type;
  Normalizer (*make)(const Json& spec);
};
constexpr Row kNormalizers[] = {
    {"NFC", unicode_form<NormalForm::nfc>},
    {"NFD", unicode_form<NormalForm::nfd>},
    {"NFKC", unicode_form<NormalForm::nfkc>},
    {"NFKD", unicode_form<NormalForm::nfkd>},
    {"Lowercase", lowercase},
    {"Strip", strip},
    {"Prepend", prepend},
    {"Replace", replace},
    {"Sequence", sequence},
};

}  // namespace

Normalizer make_normalizer(const Json& spec) {
  if (spec.is_null()) return [](Segment&) {};
  const std::string& type = string_member(spec, "type");
  for (const Row& row : kNormalizers)
    if (type == row.type) return within("normalizer " + type, [&] { return row.make(spec); });
  unsupported("normalizer " + in_quotes(type));
}

}  // namespace mpk::tok
