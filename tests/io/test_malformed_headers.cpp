// 200 files with broken headers, each made from a valid one by a mutation that cannot leave it valid.

#include <algorithm>
#include <array>
#include <set>

#include <fmt/format.h>

#include "packer/io/safetensors.hpp"
#include "tests/io/container.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

constexpr int kNumFiles = 200;

/// A container before it becomes bytes, so that a mutation changes exactly one thing.
struct Draft {
  struct Entry {
    std::string name, dtype;
    std::vector<std::string> shape;
    std::string begin, end, extra;
    std::uint64_t size_bytes;
  };
  std::vector<Entry> entries;
  std::string data;

  static std::string join(const std::vector<std::string>& parts) {
    std::string out;
    for (const auto& part : parts) out += (out.empty() ? "" : ",") + part;
    return out;
  }
  std::string header() const {
    std::vector<std::string> parts{R"("__metadata__":{"format":"pt"})"};
    for (const auto& e : entries)
      parts.push_back(fmt::format(R"("{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]{}}})", e.name,
                                  e.dtype, join(e.shape), e.begin, e.end, e.extra));
    return fmt::format("{{{}}}", join(parts));
  }
  std::string file() const { return container(header(), data); }
};

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_{seed} {}

  int below(std::size_t bound) { return static_cast<int>(random_() % bound); }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + random_() % (high - low + 1); }
  template <class C>
  auto& pick(C& from) {
    return from[static_cast<std::size_t>(below(from.size()))];
  }

  /// 2 to 6 tensors of 1 to 48 bytes, valid.
  Draft draft() {
    Draft draft;
    for (int i = 0, count = 2 + below(5); i < count; ++i) {
      const DTypeInfo& type = kDTypes[static_cast<std::size_t>(below(kDTypes.size()))];
      const auto rows = between(1, 3), columns = type.bits < 8 ? 4u : between(1, 2);
      const auto size = rows * columns * static_cast<std::uint64_t>(type.bits) / 8;
      draft.entries.push_back({fmt::format("layer.{}", i),
                               type.name,
                               {std::to_string(rows), std::to_string(columns)},
                               std::to_string(draft.data.size()),
                               std::to_string(draft.data.size() + size),
                               "",
                               size});
      for (std::uint64_t byte = 0; byte < size; ++byte) draft.data += static_cast<char>(random_());
    }
    return draft;
  }

  // Each of these leaves no valid file; why, is said where it is not plain.
  std::string cut(Draft d) {  // every byte of a container is needed
    const auto file = d.file();
    return file.substr(0, static_cast<std::size_t>(below(file.size())));
  }
  std::string longer(Draft d) { return d.file() + std::string(between(1, 40), 'x'); }
  std::string length_bit(Draft d) {  // another length: the header then ends elsewhere than at its '}'
    auto file = d.file();
    const auto bit = static_cast<unsigned>(below(64));
    file[bit / 8] = static_cast<char>(file[bit / 8] ^ (1 << (bit % 8)));
    return file;
  }
  std::string bad_number(Draft d) {
    static const std::array<std::string, 10> kBad{"-1", "0.5", "1e1", "99999999999999999999", "\"2\"", "null",
                                                  "[]", "+1",  "01",  "18446744073709551615"};
    auto& entry = pick(d.entries);
    std::array<std::string*, 4> numbers{&entry.shape[0], &entry.shape[1], &entry.begin, &entry.end};
    *pick(numbers) = pick(kBad);
    return d.file();
  }
  std::string other_number(Draft d) {  // one number off: size, gap or overlap
    auto& entry = pick(d.entries);
    std::array<std::string*, 4> numbers{&entry.shape[0], &entry.shape[1], &entry.begin, &entry.end};
    auto& number = *pick(numbers);
    number = std::to_string(std::stoull(number) + between(1, 1000));
    return d.file();
  }
  std::string moved(Draft d, std::int64_t by) {  // same size, other place: overlap or hole
    auto& entry = d.entries[static_cast<std::size_t>(1 + below(d.entries.size() - 1))];
    const auto begin = static_cast<std::uint64_t>(std::stoll(entry.begin) + by);
    entry.begin = std::to_string(begin);
    entry.end = std::to_string(begin + entry.size_bytes);
    return d.file();
  }
  std::string overlap(Draft d) { return moved(d, -1); }
  std::string hole(Draft d) { return moved(d, static_cast<std::int64_t>(between(1, 1000))); }
  std::string repeated_tensor(Draft d) {
    d.entries.push_back(pick(d.entries));
    return d.file();
  }
  std::string repeated_field(Draft d) {
    static const std::array<std::string, 3> kFields{R"(,"dtype":"U8")", R"(,"shape":[1])",
                                                    R"(,"data_offsets":[0,1])"};
    pick(d.entries).extra = pick(kFields);
    return d.file();
  }
  std::string unknown_field(Draft d) {
    pick(d.entries).extra = R"(,"stride":[1])";
    return d.file();
  }
  std::string unknown_dtype(Draft d) {
    static const std::array<std::string, 6> kBad{"F31", "f32", "", "BF16 ", "INT4", "Q4_K"};
    pick(d.entries).dtype = pick(kBad);
    return d.file();
  }
  std::string deep(Draft d) {
    const std::size_t depth = 1u << between(1, 17);
    pick(d.entries).shape[0] = std::string(depth, '[') + "1" + std::string(depth, ']');
    return d.file();
  }
  std::string huge_shape(Draft d) {
    auto& shape = pick(d.entries).shape;
    shape.assign(between(2, 9), std::to_string(between(std::uint64_t{1} << 40, std::uint64_t{1} << 62)));
    return d.file();
  }
  std::string not_utf8(Draft d) {
    static const std::array<std::string, 6> kBad{
        "\x80", "\xc3", "\xe2\x82", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xff"};
    auto& name = pick(d.entries).name;
    name.insert(static_cast<std::size_t>(below(name.size() + 1)), pick(kBad));
    return d.file();
  }
  std::string control_byte(Draft d) {  // never allowed inside or outside of a string
    auto file = d.file();
    file[8 + static_cast<std::size_t>(below(d.header().size()))] = static_cast<char>(below(8));
    return file;
  }
  std::string no_structure(Draft d) {  // without this brace, bracket, colon or quote it is not JSON
    auto header = d.header();
    std::vector<std::size_t> structure;
    for (std::size_t i = 0; i < header.size(); ++i)
      if (std::string_view{"{}[]:\""}.find(header[i]) != std::string_view::npos) structure.push_back(i);
    header.erase(pick(structure), 1);
    return container(header, d.data);
  }
  std::string noise(Draft d) {  // the top byte of the length makes it at least 2^56
    std::string file(between(8, 400), '\0');
    for (auto& byte : file) byte = static_cast<char>(random_());
    file[7] = static_cast<char>(1 + below(255));
    return file + d.data;
  }
  std::string noise_in_header(Draft d) {  // a second '{' where a key must stand
    std::string header = "{{";
    for (int i = 0, count = 2 + below(200); i < count; ++i) header += static_cast<char>(random_());
    return container(header + '}', d.data);
  }

 private:
  std::mt19937 random_;
};

struct Mutation {
  const char* name;
  std::string (Mutator::*run)(Draft);
};
constexpr std::array kMutations{
    Mutation{"cut", &Mutator::cut},
    Mutation{"longer", &Mutator::longer},
    Mutation{"length bit", &Mutator::length_bit},
    Mutation{"bad number", &Mutator::bad_number},
    Mutation{"other number", &Mutator::other_number},
    Mutation{"overlap", &Mutator::overlap},
    Mutation{"hole", &Mutator::hole},
    Mutation{"repeated tensor", &Mutator::repeated_tensor},
    Mutation{"repeated field", &Mutator::repeated_field},
    Mutation{"unknown field", &Mutator::unknown_field},
    Mutation{"unknown dtype", &Mutator::unknown_dtype},
    Mutation{"deep", &Mutator::deep},
    Mutation{"huge shape", &Mutator::huge_shape},
    Mutation{"not UTF-8", &Mutator::not_utf8},
    Mutation{"control byte", &Mutator::control_byte},
    Mutation{"no structure", &Mutator::no_structure},
    Mutation{"noise", &Mutator::noise},
    Mutation{"noise in header", &Mutator::noise_in_header},
};

}  // namespace

TEST_CASE("200 malformed headers are refused with a message", "[io][safetensors]") {
  const ScratchDir dir;
  const auto path = dir / "mutant.safetensors";
  Mutator mutator{20261121};  // fixed: the 200 files are the same in every run
  std::set<std::string> distinct;
  int num_refused = 0;
  for (int i = 0; static_cast<int>(distinct.size()) < kNumFiles; ++i) {
    REQUIRE(i < 2 * kNumFiles);  // mutations must not keep repeating themselves
    const auto draft = mutator.draft();
    const auto valid = draft.file();
    REQUIRE_FALSE(error_of([&] { parse_safetensors(bytes_of(valid)); }).has_value());

    const auto& mutation = kMutations[static_cast<std::size_t>(i) % kMutations.size()];
    const auto mutant = (mutator.*mutation.run)(draft);
    if (!distinct.insert(mutant).second) continue;
    CAPTURE(i, mutation.name, mutant.size());
    write_file(path, mutant);
    const auto error = error_of([&] { SafetensorsFile::open(path); });
    REQUIRE(error.has_value());
    REQUIRE(static_cast<int>(error->kind()) == static_cast<int>(ErrorKind::bad_input));
    const std::string what = error->what();
    const auto reason = what.substr(0, what.find("\n  in "));
    REQUIRE(reason.size() > 10);
    REQUIRE(what.find("mutant.safetensors") != std::string::npos);
    ++num_refused;
  }
  CHECK(num_refused == kNumFiles);
}

TEST_CASE("fresh mutants every run", "[io][safetensors]") {
  Mutator mutator{mpk::test::seed()};  // --rng-seed replays a failure
  for (int i = 0; i < 2000; ++i) {
    const auto draft = mutator.draft();
    const auto& mutation = kMutations[static_cast<std::size_t>(i) % kMutations.size()];
    const auto mutant = (mutator.*mutation.run)(draft);
    const auto error = error_of([&] { parse_safetensors(bytes_of(mutant)); });
    CAPTURE(i, mutation.name, mutant);
    REQUIRE(error.has_value());
    REQUIRE(static_cast<int>(error->kind()) == static_cast<int>(ErrorKind::bad_input));
  }
}

TEST_CASE("any single changed header byte is refused or leaves a container that adds up",
          "[io][safetensors]") {
  Mutator mutator{mpk::test::seed()};
  const auto draft = mutator.draft();
  const auto file = draft.file();
  for (std::size_t at = 0; at < file.size() - draft.data.size(); ++at)
    for (int value = 0; value < 256; ++value) {
      auto mutant = file;
      mutant[at] = static_cast<char>(value);
      SafetensorsHeader header;
      const auto error = error_of([&] { header = parse_safetensors(bytes_of(mutant)); });
      if (error) {
        if (error->kind() != ErrorKind::bad_input) FAIL("at " << at << ", value " << value);
        continue;
      }
      std::uint64_t total =
          0;  // accepted (a name, an equal-sized dtype, white space): still exactly this data
      for (const auto& [name, entry] : header.tensors) total += entry.end - entry.begin;
      if (header.size_bytes + total != mutant.size()) FAIL("at " << at << ", value " << value);
    }
}
