#include "model/tokenizer/npy.hpp"

#include <cctype>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "model/tokenizer/json_spec.hpp"
#include "packer/io/printable.hpp"

namespace mpk::tok {
namespace {

struct Element {
  std::string_view descr;
  DType dtype;
};
constexpr Element kElements[] = {
    {"|i1", DType::I8}, {"<i2", DType::I16}, {"<i4", DType::I32}, {"<i8", DType::I64},
    {"|u1", DType::U8}, {"<u2", DType::U16}, {"<u4", DType::U32}, {"<u8", DType::U64},
};

/// The header: a Python dictionary literal with exactly the keys descr, fortran_order and shape.
class Header {
 public:
  explicit Header(std::string_view text) : text_{text} {}

  std::string descr;
  bool fortran_order = false;
  Shape shape;

  void parse() {
    bool seen[3] = {};
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted_string();
      expect(':');
      const int which = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : -1;
      if (which < 0 || seen[which]) bad("the header has an unexpected key " + in_quotes(key));
      seen[which] = true;
      if (which == 0) descr = quoted_string();
      if (which == 1) fortran_order = boolean();
      if (which == 2) shape = tuple();
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) malformed();
    if (!seen[0] || !seen[1] || !seen[2]) bad("the header lacks descr, fortran_order or shape");
  }

 private:
  [[noreturn]] void malformed() const { bad(fmt::format("the header is malformed at its byte {}", at_)); }
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool accept(char c) {
    skip_space();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) malformed();
  }
  bool accept_word(std::string_view word) {
    skip_space();
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  bool boolean() {
    if (accept_word("True")) return true;
    if (accept_word("False")) return false;
    malformed();
  }
  std::string quoted_string() {
    const char quote = accept('\'') ? '\'' : accept('"') ? '"' : '\0';
    const auto end = quote ? text_.find(quote, at_) : text_.npos;
    if (end == text_.npos) malformed();
    const std::string value{text_.substr(at_, end - at_)};
    at_ = end + 1;
    return value;
  }
  Shape tuple() {
    Shape dimensions;
    expect('(');
    while (!accept(')')) {
      dimensions.push_back(dimension());
      if (accept(',')) continue;
      expect(')');
      if (dimensions.size() == 1) malformed();  // "(3)" is a number, "(3,)" a tuple
      break;
    }
    return dimensions;
  }
  std::int64_t dimension() {
    skip_space();
    const std::size_t begin = at_;
    std::int64_t value = 0;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      if (value > std::numeric_limits<std::int64_t>::max() / 10 - 1) malformed();
      value = value * 10 + (text_[at_++] - '0');
    }
    if (at_ == begin) malformed();
    return value;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

/// Bytes that the shape asks for; nothing if 64 bits do not hold the number.
std::optional<std::uint64_t> num_bytes(const Shape& shape, DType dtype) {
  std::uint64_t bytes = static_cast<std::uint64_t>(info(dtype).bits) / 8;
  for (const std::int64_t extent : shape)
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(extent), &bytes)) return std::nullopt;
  return bytes;
}

DType dtype_of(std::string_view descr) {
  // NumPy writes '|' for single bytes; '<' says no less about them.
  for (const Element& element : kElements)
    if (descr == element.descr ||
        (element.descr[0] == '|' && descr.starts_with('<') && descr.substr(1) == element.descr.substr(1)))
      return element.dtype;
  unsupported(fmt::format("element type {}; token ids are little-endian integers", in_quotes(descr)));
}

}  // namespace

TensorView parse_npy(std::span<const std::byte> file) {
  const std::string_view text{reinterpret_cast<const char*>(file.data()), file.size()};
  constexpr std::string_view kMagic = "\x93NUMPY";
  if (!text.starts_with(kMagic)) bad("does not begin with \\x93NUMPY");
  const auto byte = [&](std::size_t i) -> std::size_t {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const auto major = byte(6), minor = byte(7);
  if (major < 1 || major > 3 || minor != 0) unsupported(fmt::format(".npy version {}.{}", major, minor));
  const std::size_t length_bytes = major == 1 ? 2 : 4, header_begin = 8 + length_bytes;
  std::size_t header_length = 0;
  for (std::size_t i = 0; i < length_bytes; ++i) header_length |= byte(8 + i) << (8 * i);
  if (text.size() < header_begin || header_length > text.size() - header_begin) bad("ends within its header");

  Header header{text.substr(header_begin, header_length)};
  header.parse();
  const DType dtype = dtype_of(header.descr);
  if (header.fortran_order && header.shape.size() > 1) unsupported("Fortran order");
  const auto data = file.subspan(header_begin + header_length);
  if (num_bytes(header.shape, dtype) != data.size())
    bad(fmt::format("{} bytes of data do not hold shape {} of {}", data.size(), to_string(header.shape),
                    info(dtype).name));
  return {dtype, header.shape, data};
}

}  // namespace mpk::tok
