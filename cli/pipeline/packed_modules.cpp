#include "cli/pipeline/packed_modules.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "packer/format/error.hpp"

namespace mpk {
namespace {

struct Group {
  std::string separator = ".";
  std::vector<std::string> suffixes;
};

/// GPT-OSS joins the name of a stack of experts and a suffix by an underscore: "experts.down_proj_blocks".
constexpr std::string_view kStackedSuffixes[] = {"_blocks", "_scales", "_bias"};
constexpr std::string_view kStackMark = "_blocks";

std::map<std::string, Group> group_by_module(const Checkpoint& checkpoint) {
  std::set<std::string> stacks;
  for (const std::string& name : checkpoint.names())
    if (name.ends_with(kStackMark)) stacks.insert(name.substr(0, name.size() - kStackMark.size()));
  std::map<std::string, Group> groups;
  const auto add_to_stack = [&](const std::string& name) {
    for (const std::string_view suffix : kStackedSuffixes) {
      if (!name.ends_with(suffix)) continue;
      const std::string stack = name.substr(0, name.size() - suffix.size());
      if (!stacks.contains(stack)) continue;
      groups[stack].separator = "_";
      groups[stack].suffixes.emplace_back(suffix.substr(1));
      return true;
    }
    return false;
  };
  for (const std::string& name : checkpoint.names()) {
    if (add_to_stack(name)) continue;
    const std::size_t dot = name.rfind('.');
    if (dot != std::string::npos) groups[name.substr(0, dot)].suffixes.push_back(name.substr(dot + 1));
  }
  return groups;
}

}  // namespace

TensorView slice(const TensorView& stacked, std::int64_t index) {
  TensorView one{stacked.dtype, {stacked.shape.begin() + 1, stacked.shape.end()}, {}};
  const std::size_t bytes = stacked.data.size() / static_cast<std::size_t>(stacked.shape.front());
  one.data = stacked.data.subspan(static_cast<std::size_t>(index) * bytes, bytes);
  return one;
}

PartViews PackedModule::parts(const Checkpoint& checkpoint, std::int64_t expert) const {
  PartViews views;
  for (const std::string& suffix : suffixes) {
    const TensorView tensor = checkpoint.tensor(tensor_name(suffix));
    views.emplace(suffix, experts == 0 ? tensor : slice(tensor, expert));
  }
  return views;
}

std::vector<PackedModule> group_modules(const Checkpoint& checkpoint) {
  std::vector<PackedModule> modules;
  for (const auto& [name, group] : group_by_module(checkpoint)) {
    PackedModule module;
    module.name = name;
    module.separator = group.separator;
    for (const std::string& suffix : group.suffixes)
      (is_companion(suffix) ? module.companions : module.suffixes).push_back(suffix);
    if (!module.suffixes.empty()) modules.push_back(std::move(module));
  }
  return modules;
}

bool recognize_module(PackedModule& module, const Checkpoint& checkpoint, const Claims& claims) {
  return within("module " + module.name, [&] {
    const auto fail = [](const char* what) { throw Error{ErrorKind::bad_input, what}; };
    if (module.separator == "_") {
      for (const std::string& suffix : module.suffixes) {
        const Shape& shape = checkpoint.tensor(module.tensor_name(suffix)).shape;
        if (shape.empty() || shape.front() < 1) return false;
        if (module.experts != 0 && shape.front() != module.experts)
          fail("its tensors disagree on the number of experts");
        module.experts = shape.front();
      }
    }
    const auto stored = recognize(module.parts(checkpoint), claims);
    if (!stored) return false;
    module.stored = *stored;
    for (std::int64_t expert = 1; expert < module.experts; ++expert) {
      const auto other = recognize(module.parts(checkpoint, expert), claims);
      if (!other || other->format != stored->format || other->geometry != stored->geometry)
        fail("its experts are stored in different ways");
    }
    return true;
  });
}

std::vector<PackedModule> find_packed_modules(const Checkpoint& checkpoint, const ClaimsOf& claims) {
  std::vector<PackedModule> modules = group_modules(checkpoint);
  std::erase_if(modules, [&](PackedModule& module) {
    return !recognize_module(module, checkpoint, claims(module.name));
  });
  return modules;
}

}  // namespace mpk
