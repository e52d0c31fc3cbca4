#pragma once
// What has been done so far, line by line, so that it holds whenever the process or the machine stops.

#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

#include "packer/io/file_descriptor.hpp"

namespace mpk {

/// A file of lines, each with the SHA-256 of its text before it. A line that was cut off or changed counts as
/// never written, and what follows it, too.
class Journal {
 public:
  /// Opens the file, or creates it. Throws Error{device} if the system fails.
  explicit Journal(std::filesystem::path file);

  /// What the file held when it was opened.
  const std::vector<std::string>& lines() const { return lines_; }
  /// `text` has no line break. From any thread; returns when the line is on disk.
  void append(const std::string& text);

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
  std::vector<std::string> lines_;
  std::mutex mutex_;
};

}  // namespace mpk
