#pragma once
// Where every byte of a checkpoint will stand, decided before any is written.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "packer/io/checkpoint_writer.hpp"

namespace mpk {

struct PlannedTensor {
  TensorSpec spec;
  std::uint64_t offset = 0;  ///< in its file
  std::uint64_t size_bytes = 0;
};

struct PlannedShard {
  std::string file_name;
  std::string header;                  ///< length field, JSON, padding
  std::vector<PlannedTensor> tensors;  ///< in file order
  std::uint64_t size_bytes = 0;        ///< of the file
};

/// Shards are filled greedily in the order of `specs`. Depends on its arguments only.
/// `metadata` stands in every header, behind "format". Throws Error{bad_input} for a repeated or impossible
/// tensor, Error{usage} for max_shard_bytes of 0.
std::vector<PlannedShard> plan_shards(const std::vector<TensorSpec>& specs, std::uint64_t max_shard_bytes,
                                      const std::map<std::string, std::string>& metadata = {});

/// The text of model.safetensors.index.json.
std::string index_text(const std::vector<PlannedShard>& shards);

}  // namespace mpk
