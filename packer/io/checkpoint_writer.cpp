#include "packer/io/checkpoint_writer.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <future>
#include <mutex>
#include <new>
#include <optional>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/io/checkpoint_files.hpp"
#include "packer/io/mapped_file.hpp"
#include "packer/io/output_file.hpp"
#include "packer/io/printable.hpp"
#include "packer/io/sha256.hpp"
#include "packer/io/shard_plan.hpp"

namespace mpk {

namespace {

constexpr std::size_t kPieceBytes = std::size_t{1} << 20;  // of one system call: its copy stays in the cache
constexpr std::size_t kSmallBytes = std::size_t{256} << 10;  // not worth a trip to the disk of their own

struct FreeMemory {
  void operator()(std::byte* memory) const { std::free(memory); }
};
/// What OutputFile::write_at asks of blocks.
std::unique_ptr<std::byte, FreeMemory> allocate_blocks(std::size_t bytes) {
  const std::size_t blocks = (bytes + OutputFile::kBlockBytes - 1) / OutputFile::kBlockBytes;
  auto* memory =
      static_cast<std::byte*>(std::aligned_alloc(OutputFile::kBlockBytes, blocks * OutputFile::kBlockBytes));
  if (!memory) throw std::bad_alloc{};
  return std::unique_ptr<std::byte, FreeMemory>{memory};
}

Error contradiction(const std::string& what) {
  return {ErrorKind::mismatch, what};
}

}  // namespace

struct CheckpointWriter::Impl {
  enum class State { waiting, writing, written };
  struct Slot {
    const PlannedTensor* tensor;
    std::size_t shard_idx;
    State state = State::waiting;
    std::string sha256;
  };

  std::filesystem::path directory;
  std::vector<PlannedShard> plan;
  std::vector<std::string> shards;
  std::vector<OutputFile> files;                        ///< one per shard
  mutable std::vector<std::optional<MappedFile>> maps;  ///< likewise, those that have been read
  bool finished = false;
  mutable std::mutex mutex;  ///< guards the state and sha256 of slots; the map itself does not change
  std::unordered_map<std::string, Slot> slots;

  Slot& slot(const std::string& name) {
    const auto found = slots.find(name);
    if (found == slots.end()) throw contradiction("the output was planned without tensor " + in_quotes(name));
    return found->second;
  }
  const Slot& slot(const std::string& name) const { return const_cast<Impl*>(this)->slot(name); }

  void claim(Slot& slot);
  void wrote(Slot& slot, std::string digest);
  std::span<const std::byte> mapped(const Slot& slot) const;
  void write_data(const Slot& slot, std::span<const std::byte> data) const;
  /// The disk and the hash at the same time; either takes as long as the other.
  std::string write_and_hash(const Slot& slot, std::span<const std::byte> data) const;
};

void CheckpointWriter::Impl::claim(Slot& slot) {
  const std::lock_guard lock{mutex};
  if (finished) throw contradiction("the checkpoint is finished");
  if (slot.state != State::waiting) throw contradiction("it is written twice");
  slot.state = State::writing;
}

void CheckpointWriter::Impl::wrote(Slot& slot, std::string digest) {
  const std::lock_guard lock{mutex};
  slot.sha256 = std::move(digest);
  slot.state = State::written;
}

std::span<const std::byte> CheckpointWriter::Impl::mapped(const Slot& slot) const {
  const std::lock_guard lock{mutex};
  auto& map = maps[slot.shard_idx];
  if (!map) map = MappedFile::open(directory / plan[slot.shard_idx].file_name);
  return map->bytes().subspan(slot.tensor->offset, slot.tensor->size_bytes);
}

void CheckpointWriter::Impl::write_data(const Slot& slot, std::span<const std::byte> data) const {
  const OutputFile& file = files[slot.shard_idx];
  const bool copies = file.bypasses_cache() && data.size() >= kSmallBytes;
  const auto blocks = allocate_blocks(copies ? std::min(kPieceBytes, data.size()) : 0);
  for (std::uint64_t offset = slot.tensor->offset; !data.empty();) {
    // A short piece first, up to where a block of the file begins: after it all but the last are whole
    // blocks.
    const std::size_t head = offset % OutputFile::kBlockBytes;
    const auto piece = data.first(std::min(head ? OutputFile::kBlockBytes - head : kPieceBytes, data.size()));
    if (copies) std::memcpy(blocks.get(), piece.data(), piece.size());
    file.write_at(offset, copies ? std::span{blocks.get(), piece.size()} : piece);
    offset += piece.size();
    data = data.subspan(piece.size());
  }
}

std::string CheckpointWriter::Impl::write_and_hash(const Slot& slot, std::span<const std::byte> data) const {
  if (data.size() < kSmallBytes) {
    write_data(slot, data);
    return mpk::sha256(data);
  }
  auto digest = std::async(std::launch::async, [&] { return mpk::sha256(data); });
  write_data(slot, data);
  return digest.get();
}

CheckpointWriter::CheckpointWriter(std::filesystem::path directory, const std::vector<TensorSpec>& specs,
                                   std::uint64_t max_shard_bytes, Begin begin,
                                   const std::map<std::string, std::string>& metadata)
    : impl_{std::make_unique<Impl>()} {
  impl_->directory = std::move(directory);
  impl_->plan = plan_shards(specs, max_shard_bytes, metadata);
  impl_->maps.resize(impl_->plan.size());
  std::uint64_t total = 0;
  for (const auto& shard : impl_->plan) total += shard.size_bytes;
  within(fmt::format("a checkpoint of {} bytes in {}", total, impl_->directory.string()), [&] {
    for (std::size_t i = 0; i < impl_->plan.size(); ++i) {
      const PlannedShard& shard = impl_->plan[i];
      impl_->shards.push_back(shard.file_name);
      const auto open = begin == Begin::anew ? OutputFile::create : OutputFile::open_existing;
      impl_->files.push_back(open(impl_->directory / shard.file_name, shard.size_bytes));
      impl_->files.back().write_at(0, std::as_bytes(std::span{shard.header}));
      for (const auto& tensor : shard.tensors)
        impl_->slots.emplace(tensor.spec.name, Impl::Slot{.tensor = &tensor, .shard_idx = i, .sha256 = {}});
    }
  });
}

CheckpointWriter::~CheckpointWriter() = default;

void CheckpointWriter::write(const std::string& name, const TensorView& tensor) {
  auto& slot = impl_->slot(name);
  const TensorSpec& spec = slot.tensor->spec;
  within("output tensor " + in_quotes(name), [&] {
    if (tensor.dtype != spec.dtype || tensor.shape != spec.shape)
      throw contradiction(fmt::format("planned as {} {}, written as {} {}", info(spec.dtype).name,
                                      to_string(spec.shape), info(tensor.dtype).name,
                                      to_string(tensor.shape)));
    if (tensor.data.size() != slot.tensor->size_bytes)
      throw contradiction(fmt::format("{} {} is {} bytes, got {}", info(spec.dtype).name,
                                      to_string(spec.shape), slot.tensor->size_bytes, tensor.data.size()));
    impl_->claim(slot);
    impl_->wrote(slot, impl_->write_and_hash(slot, tensor.data));
  });
}

void CheckpointWriter::adopt(const std::string& name, const std::string& sha256) {
  auto& slot = impl_->slot(name);
  within("output tensor " + in_quotes(name), [&] {
    impl_->claim(slot);
    const auto bytes = impl_->mapped(slot);
    if (mpk::sha256(bytes) != sha256)
      throw contradiction("its bytes in " + impl_->shards[slot.shard_idx] +
                          " are not those that were written");
    MappedFile::release(bytes);
    impl_->wrote(slot, sha256);
  });
}

void CheckpointWriter::flush() const {
  for (const OutputFile& file : impl_->files) file.flush();
}

TensorView CheckpointWriter::read(const std::string& name) const {
  const auto& slot = std::as_const(*impl_).slot(name);
  sha256(name);  // throws if it is not written
  return {slot.tensor->spec.dtype, slot.tensor->spec.shape, impl_->mapped(slot)};
}

void CheckpointWriter::finish() {
  const std::lock_guard lock{impl_->mutex};
  if (impl_->finished) throw contradiction("the checkpoint is finished twice");
  std::size_t num_missing = 0;
  std::string first;
  for (const auto& shard : impl_->plan)
    for (const auto& tensor : shard.tensors)
      if (impl_->slot(tensor.spec.name).state != Impl::State::written && num_missing++ == 0)
        first = tensor.spec.name;
  if (num_missing > 0)
    throw contradiction(fmt::format("{} of {} tensors were not written, the first is {}", num_missing,
                                    impl_->slots.size(), in_quotes(first)));
  for (auto& file : impl_->files) file.close();
  if (impl_->plan.size() > 1) write_new_file(impl_->directory / kIndexFileName, index_text(impl_->plan));
  impl_->finished = true;
}

std::string CheckpointWriter::sha256(const std::string& name) const {
  const auto& slot = std::as_const(*impl_).slot(name);
  const std::lock_guard lock{impl_->mutex};
  if (slot.state != Impl::State::written)
    throw contradiction("tensor " + in_quotes(name) + " is not written yet");
  return slot.sha256;
}

std::string CheckpointWriter::header_sha256(const std::string& shard) const {
  for (const auto& planned : impl_->plan)
    if (planned.file_name == shard) return mpk::sha256(std::as_bytes(std::span{planned.header}));
  throw contradiction("the output was planned without shard " + in_quotes(shard));
}

const std::string& CheckpointWriter::shard_of(const std::string& name) const {
  return impl_->shards[std::as_const(*impl_).slot(name).shard_idx];
}

const std::vector<std::string>& CheckpointWriter::shards() const {
  return impl_->shards;
}

}  // namespace mpk
