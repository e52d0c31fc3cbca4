#include "verify/integrity.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/io/sha256.hpp"

namespace mpk {
namespace fs = std::filesystem;
namespace {

void check_file_names(const fs::path& directory, const Manifest& manifest, IntegrityReport& report) {
  std::set<std::string> expected{kManifestName};
  for (const auto& file : manifest.files) expected.insert(file.name);
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with('.') && expected.erase(name) == 0)
      report.failures.push_back(
          fmt::format("{}: not in the manifest; remove it or write the artifact again", name));
  }
  for (const auto& name : expected) report.failures.push_back(fmt::format("{}: missing", name));
}

void check_file(const fs::path& path, const ManifestFile& file, const Checkpoint& checkpoint,
                IntegrityReport& report) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  if (error) return;  // reported as missing
  if (size != file.bytes) {
    report.failures.push_back(fmt::format("{}: {} bytes, written were {}", file.name, size, file.bytes));
    return;
  }
  const std::string found =
      file.header_only ? sha256(checkpoint.header_bytes(file.name)) : sha256_of_file(path);
  if (found != file.sha256)
    report.failures.push_back(fmt::format("{}: {}SHA-256 differs from the manifest", file.name,
                                          file.header_only ? "header's " : ""));
  if (!file.header_only) report.bytes += size;
}

std::string compare(const ManifestTensor& expected, const Checkpoint& checkpoint) {
  if (!checkpoint.contains(expected.name)) return fmt::format("tensor {}: missing", expected.name);
  const TensorView found = checkpoint.tensor(expected.name);
  if (found.dtype != expected.dtype || found.shape != expected.shape)
    return fmt::format("tensor {}: {} {} in the file, {} {} in the manifest", expected.name,
                       info(found.dtype).name, to_string(found.shape), info(expected.dtype).name,
                       to_string(expected.shape));
  if (sha256(found.data) != expected.sha256)
    return fmt::format("tensor {} in file {}: SHA-256 differs from the manifest", expected.name,
                       expected.file);
  return {};
}

}  // namespace

IntegrityReport check_integrity(const fs::path& directory, const Manifest& manifest,
                                const Checkpoint& checkpoint) {
  IntegrityReport report;
  check_file_names(directory, manifest, report);
  for (const auto& file : manifest.files) check_file(directory / file.name, file, checkpoint, report);

  std::vector<std::string> problems(manifest.tensors.size());
#pragma omp parallel for schedule(dynamic)
  for (std::size_t i = 0; i < manifest.tensors.size(); ++i)
    problems[i] = compare(manifest.tensors[i], checkpoint);
  std::set<std::string> known;
  for (std::size_t i = 0; i < manifest.tensors.size(); ++i) {
    if (!problems[i].empty()) report.failures.push_back(problems[i]);
    known.insert(manifest.tensors[i].name);
  }
  for (const auto& name : checkpoint.names()) {
    report.bytes += checkpoint.tensor(name).data.size();
    if (!known.contains(name)) report.failures.push_back(fmt::format("tensor {}: not in the manifest", name));
  }
  report.files = static_cast<std::int64_t>(manifest.files.size());
  report.tensors = static_cast<std::int64_t>(manifest.tensors.size());
  return report;
}

}  // namespace mpk
