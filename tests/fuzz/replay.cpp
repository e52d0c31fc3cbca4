// Runs a target without libFuzzer: every file of the given folders, then mutations of them, always the same.
//
//   replay_TARGET FOLDER... [--mutations COUNT] [--keep FILE]
//
// --keep writes each input to FILE before it runs, so that the one that ends the process is there afterwards.

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz.hpp"

namespace {

constexpr std::size_t kLongest = 1 << 16;

class Runner {
 public:
  explicit Runner(std::string keep) : keep_{std::move(keep)} {}

  void run(const std::string& input) {
    if (!keep_.empty())
      std::ofstream{keep_, std::ios::binary | std::ios::trunc}.write(
          input.data(), static_cast<std::streamsize>(input.size()));
    // A copy of its own size, so that the address sanitizer sees a byte behind it.
    const std::vector<std::uint8_t> exact(input.begin(), input.end());
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
  }

 private:
  std::string keep_;
};

/// A few edits: bytes and bits changed, stretches removed, doubled or taken from another seed, numbers at
/// edges.
std::string mutated(const std::vector<std::string>& seeds, std::mt19937& random) {
  const auto below = [&](std::size_t bound) { return bound == 0 ? 0 : random() % bound; };
  std::string text = seeds[below(seeds.size())];
  for (std::size_t edits = 1 + below(6); edits > 0; --edits) {
    const std::size_t at = below(text.size() + 1),
                      length = below(std::min<std::size_t>(text.size() - at, 32) + 1);
    const bool has_byte = at < text.size();
    switch (below(8)) {
      case 0:
        if (has_byte) text[at] = static_cast<char>(random());
        break;
      case 1:
        if (has_byte) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 2:
        text.erase(at, length);
        break;
      case 3:
        text.insert(at, text.substr(below(text.size() + 1), length));
        break;
      case 4: {
        const std::string& other = seeds[below(seeds.size())];
        text.insert(at, other.substr(below(other.size() + 1), below(64)));
        break;
      }
      case 5: {
        static constexpr std::string_view kTokens[] = {"-1",
                                                       "0",
                                                       "4294967296",
                                                       "9223372036854775807",
                                                       "18446744073709551615",
                                                       "1e308",
                                                       "null",
                                                       "true",
                                                       "[]",
                                                       "{}",
                                                       "\"\"",
                                                       "[[[[[[[[",
                                                       "\\u0000",
                                                       "..",
                                                       "\xff",
                                                       ","};
        text.insert(at, kTokens[below(std::size(kTokens))]);
        break;
      }
      case 6:
        if (text.size() - at >= 2) {
          static constexpr std::uint16_t kEdges[] = {0,   1,   15,  16,     32,     64,
                                                     127, 128, 256, 0x7fff, 0x8000, 0xffff};
          std::memcpy(text.data() + at, &kEdges[below(std::size(kEdges))], 2);
        }
        break;
      default:
        text.resize(at);
        break;
    }
  }
  text.resize(std::min(text.size(), kLongest));
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::filesystem::path> files;
  std::string keep;
  long mutations = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--mutations" && i + 1 < argc) {
      mutations = std::atol(argv[++i]);
    } else if (argument == "--keep" && i + 1 < argc) {
      keep = argv[++i];
    } else if (std::filesystem::is_regular_file(argument)) {
      files.emplace_back(argument);
    } else if (std::filesystem::is_directory(argument)) {
      for (const auto& entry : std::filesystem::directory_iterator{argument})
        if (entry.is_regular_file()) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<std::string> seeds;
  for (const auto& file : files) {
    std::ifstream in{file, std::ios::binary};
    seeds.emplace_back(std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{});
  }
  if (seeds.empty()) {
    std::fprintf(stderr, "no inputs\n");
    return 2;
  }
  Runner runner{keep};
  runner.run("");
  for (const std::string& seed : seeds) runner.run(seed);
  std::mt19937 random{20261121};
  for (long i = 0; i < mutations; ++i) runner.run(mutated(seeds, random));
  std::printf("%zu files, %ld mutations\n", seeds.size(), mutations);
}
