#pragma once
// How a directory that is complete gets its final name.

#include <filesystem>

#include "packer/format/error.hpp"

namespace mpk {

/// Absolute and without trailing slash, so that neither chdir nor "out/" changes what it means. Throws
/// Error{usage} for a path without a name.
std::filesystem::path output_path(const std::filesystem::path& path);

/// "... exists already; an output is never replaced"
Error already_there(const std::filesystem::path& path);
bool is_there(const std::filesystem::path& path);

/// Flushes every file below `from` to disk and renames it to `to`, on the same file system. Throws
/// Error{usage} if something is there, Error{device} if the system fails; `from` stays in both cases.
void publish_directory(const std::filesystem::path& from, const std::filesystem::path& to);

/// The same for one file.
void publish_file(const std::filesystem::path& from, const std::filesystem::path& to);

/// A file's bytes, or a directory's entries, are on disk afterwards.
void flush_to_disk(const std::filesystem::path& path);

}  // namespace mpk
