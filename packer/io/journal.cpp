#include "packer/io/journal.hpp"

#include <cerrno>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <span>
#include <string_view>
#include <unistd.h>
#include <utility>

#include "packer/io/publish.hpp"
#include "packer/io/sha256.hpp"

namespace mpk {
namespace {

std::string hash_of(std::string_view text) {
  return sha256(std::as_bytes(std::span{text}));
}

/// The text of the first line if it is whole, and how many bytes it takes.
std::pair<std::string_view, std::size_t> first_line(std::string_view rest) {
  constexpr std::size_t kHashLetters = 64;
  const auto end = rest.find('\n');
  if (end == std::string_view::npos || end <= kHashLetters || rest[kHashLetters] != ' ') return {};
  const std::string_view text = rest.substr(kHashLetters + 1, end - kHashLetters - 1);
  if (rest.substr(0, kHashLetters) != hash_of(text)) return {};
  return {text, end + 1};
}

}  // namespace

Journal::Journal(std::filesystem::path file) : path_{std::move(file)} {
  std::string content;
  if (std::ifstream in{path_, std::ios::binary}) content.assign(std::istreambuf_iterator<char>(in), {});
  std::size_t valid = 0;
  for (;;) {
    const auto [text, bytes] = first_line(std::string_view{content}.substr(valid));
    if (bytes == 0) break;
    lines_.emplace_back(text);
    valid += bytes;
  }
  file_ = FileDescriptor{::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)};
  if (!file_.is_open()) throw os_error(ErrorKind::device, "cannot open " + path_.string(), errno);
  if (::ftruncate(file_.get(), static_cast<off_t>(valid)) != 0)
    throw os_error(ErrorKind::device, "cannot cut " + path_.string(), errno);
  flush_to_disk(path_.parent_path());
}

void Journal::append(const std::string& text) {
  const std::string line = hash_of(text) + " " + text + "\n";
  const std::lock_guard lock{mutex_};
  for (std::string_view rest = line; !rest.empty();) {
    const ssize_t written = ::write(file_.get(), rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) throw os_error(ErrorKind::device, "cannot write " + path_.string(), errno);
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fsync(file_.get()) != 0) throw os_error(ErrorKind::device, "cannot flush " + path_.string(), errno);
}

}  // namespace mpk
