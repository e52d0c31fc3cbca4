// A directory: the index (if it has any bytes), then ff, then the first of two shards.

#include "packer/io/checkpoint.hpp"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "packer/io/checkpoint_files.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/support/files.hpp"

using namespace mpk;

namespace {

constexpr const char *kFirst = "model-00001-of-00002.safetensors",
                     *kSecond = "model-00002-of-00002.safetensors";

void write(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream{path, std::ios::binary | std::ios::trunc}.write(bytes.data(),
                                                                static_cast<std::streamsize>(bytes.size()));
}

/// One tensor "b" of four bytes.
std::string second_shard() {
  std::string header = R"({"b":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}})";
  while (header.size() % 8 != 0) header += ' ';
  const std::uint64_t length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + "\1\2\3\4";
}

const std::filesystem::path& directory() {
  static const test::ScratchDir scratch;
  static const bool has_second = (write(scratch / kSecond, second_shard()), true);
  (void)has_second;
  return scratch.path();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [index, shard] = fuzz::parts_of(fuzz::text_of(data, size));
  const std::filesystem::path& at = directory();
  write(at / kFirst, shard);
  if (index.empty())
    std::filesystem::remove(at / kIndexFileName);
  else
    write(at / kIndexFileName, index);
  fuzz::succeeds([&] {
    const Checkpoint checkpoint = Checkpoint::open(at);
    fuzz::require(checkpoint.shards().size() <= 2, "only shards that are here");
    for (const std::string& name : checkpoint.names()) {
      const TensorView tensor = checkpoint.tensor(name);
      // The sanitizers look whether the bytes are there.
      volatile int last = 0;
      for (const std::byte byte : tensor.data) last = last + std::to_integer<int>(byte) % 2;
      fuzz::require(!checkpoint.where(name).empty(), "a tensor has a place");
    }
    checkpoint.side_files();
  });
  return 0;
}
