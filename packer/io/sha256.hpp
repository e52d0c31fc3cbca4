#pragma once
// SHA-256 as lower-case hex.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace mpk {

/// Of bytes that arrive in pieces.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  ~Sha256();

  void update(std::span<const std::byte> bytes);
  /// Call once, last.
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256(std::span<const std::byte> bytes);
/// Throws Error{bad_input} if the file cannot be read.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace mpk
