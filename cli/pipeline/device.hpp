#pragma once
// Where work runs.

#include <string>

namespace mpk {

enum class Device { automatic, cpu, cuda };
/// "auto", "cpu", "cuda". Throws Error{usage} for anything else.
Device device_named(const std::string& name);
/// Whether products run on the GPU. Throws Error{device} if one was demanded and there is none.
bool decide_gpu(Device device);

}  // namespace mpk
