#include "packer/io/json_file.hpp"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/io/mapped_file.hpp"
#include "packer/io/printable.hpp"

namespace mpk {

namespace {

using nlohmann::json;

/// Walks the text for the parser and remembers how far it came: SAX events carry no position.
class TrackingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  TrackingIterator(const char* at, std::size_t& consumed) : at_{at}, consumed_{&consumed} {}
  reference operator*() const { return *at_; }
  TrackingIterator& operator++() {
    ++at_;
    ++*consumed_;
    return *this;
  }
  TrackingIterator operator++(int) {
    auto before = *this;
    ++*this;
    return before;
  }
  friend bool operator==(const TrackingIterator& a, const TrackingIterator& b) { return a.at_ == b.at_; }
  friend bool operator!=(const TrackingIterator& a, const TrackingIterator& b) { return a.at_ != b.at_; }

 private:
  const char* at_;
  std::size_t* consumed_;
};

std::string position(std::string_view text, std::size_t offset) {
  const auto before = text.substr(0, offset);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const auto line_start = before.rfind('\n');
  const auto column = line_start == std::string_view::npos ? offset : offset - line_start - 1;
  return fmt::format("line {}, column {}", line, column);
}

/// Builds the document from SAX events. The parser keeps its own stack and does not recurse; neither do we.
class DocumentBuilder final : public nlohmann::json_sax<json> {
 public:
  DocumentBuilder(std::string_view text, const std::size_t& consumed, int max_depth)
      : text_{text}, consumed_{consumed}, max_depth_{max_depth} {}

  json take() { return std::move(root_); }

  bool null() override { return add(json(nullptr)); }
  bool boolean(bool value) override { return add(json(value)); }
  bool number_integer(number_integer_t value) override { return add(json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return add(json(value)); }
  bool number_float(number_float_t value, const string_t&) override { return add(json(value)); }
  bool string(string_t& value) override { return add(json(std::move(value))); }
  bool binary(binary_t&) override { return false; }  // not in text
  bool start_object(std::size_t) override { return open(json::value_t::object); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(json::value_t::array); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    auto& object = open_.back().container->get_ref<json::object_t&>();
    const auto [entry, is_new] = object.try_emplace(name);
    if (!is_new) fail("key " + in_quotes(name) + " is repeated" + inside());
    member_ = &entry->second;
    key_ = name;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    std::string_view what = error.what();  // "[json.exception...] parse error at line 1, column 3: ..."
    if (const auto end = what.find("] "); end != std::string_view::npos) what.remove_prefix(end + 2);
    throw Error{ErrorKind::bad_input, "invalid JSON: " + printable(what)};
  }

 private:
  struct Open {
    json* container;
    std::string name;  ///< key it stands under; empty for the root and inside arrays
  };

  json* place(json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    json& parent = *open_.back().container;
    if (parent.is_object()) return &(*member_ = std::move(value));
    auto& array = parent.get_ref<json::array_t&>();
    array.push_back(std::move(value));
    return &array.back();
  }
  bool add(json value) {
    place(std::move(value));
    return true;
  }
  bool open(json::value_t type) {
    if (std::cmp_greater_equal(open_.size(), max_depth_))
      fail(fmt::format("nested deeper than {} levels{}", max_depth_, inside()));
    const bool is_member = !open_.empty() && open_.back().container->is_object();
    json* container = place(json(type));
    open_.push_back({container, is_member ? key_ : std::string{}});
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  /// " in "a" in "b"": the keys around the current place, innermost first.
  std::string inside() const {
    std::string text;
    for (auto level = open_.rbegin(); level != open_.rend(); ++level)
      if (!level->name.empty()) text += " in " + in_quotes(level->name);
    return text;
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error{ErrorKind::bad_input, what + " (" + position(text_, consumed_) + ")"};
  }

  std::string_view text_;
  const std::size_t& consumed_;
  int max_depth_;
  json root_;
  std::vector<Open> open_;
  json* member_ = nullptr;  ///< where the value of the last key goes
  std::string key_;
};

}  // namespace

json parse_json(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes)
    throw Error{ErrorKind::bad_input,
                fmt::format("{} bytes of JSON where at most {} are expected", text.size(), limits.max_bytes)};
  if (const auto nul = text.find('\0'); nul != std::string_view::npos)
    throw Error{ErrorKind::bad_input, "invalid JSON: NUL byte at " + position(text, nul + 1)};

  std::size_t consumed = 0;
  std::size_t unused = 0;
  DocumentBuilder builder{text, consumed, limits.max_depth};
  // parse_error throws, so the result is always true here.
  json::sax_parse(TrackingIterator{text.data(), consumed},
                  TrackingIterator{text.data() + text.size(), unused}, &builder);
  return builder.take();
}

json read_json_file(const std::filesystem::path& path, const JsonLimits& limits) {
  return within("file " + path.string(), [&] {
    const auto file = MappedFile::open(path);
    return parse_json({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, limits);
  });
}

}  // namespace mpk
