#include "verify/report.hpp"

#include <fmt/format.h>

namespace mpk {

std::vector<std::string> VerifyReport::all_failures() const {
  std::vector<std::string> all = failures;
  all.insert(all.end(), integrity.failures.begin(), integrity.failures.end());
  for (const LayerCheck& layer : layers)
    for (const std::string& failure : layer.failures)
      all.push_back(fmt::format("{}: {}", layer.module, failure));
  return all;
}

bool VerifyReport::passed() const {
  return all_failures().empty();
}

}  // namespace mpk
