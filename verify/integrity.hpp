#pragma once
// Is every byte of an artifact the byte that was written?

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "packer/io/checkpoint.hpp"
#include "packer/manifest.hpp"

namespace mpk {

struct IntegrityReport {
  std::int64_t files = 0, tensors = 0;
  std::uint64_t bytes = 0;            ///< hashed
  std::vector<std::string> failures;  ///< one line each: which file or tensor, and what is wrong
};

/// Compares the directory's files, their headers and tensors with the manifest, both ways: nothing missing,
/// nothing added (hidden files aside), everything with the recorded SHA-256.
IntegrityReport check_integrity(const std::filesystem::path& directory, const Manifest& manifest,
                                const Checkpoint& checkpoint);

}  // namespace mpk
