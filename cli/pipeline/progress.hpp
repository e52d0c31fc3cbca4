#pragma once
// What a long job tells whoever watches. The pipeline never prints.

#include <cstdint>
#include <functional>
#include <string>

namespace mpk {

/// `done` of `total` steps of `stage` are finished; `detail` names the step that just ended. May be empty.
using Progress = std::function<void(const std::string& stage, std::int64_t done, std::int64_t total,
                                    const std::string& detail)>;

}  // namespace mpk
