#pragma once
// SHA-256 as lower-case hex.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace mpk {

std::string sha256(std::span<const std::byte> bytes);
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace mpk
