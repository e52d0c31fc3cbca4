#pragma once
// What the configuration files of a checkpoint say of its modules: every dialect's keys, rules and lists of
// names, resolved per module.

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include <nlohmann/json.hpp>

#include "packer/claims.hpp"

namespace mpk {

/// Files beside config.json in which tools put the quantization's configuration, or a copy of it.
inline constexpr std::array kSideConfigNames{"quantize_config.json", "quant_config.json",
                                             "hf_quant_config.json", "quantization_config.json"};

/// A configuration as it was read; `name` is for messages, and its last component tells a file that does not
/// name its method: GPTQ wrote quantize_config.json, AWQ quant_config.json.
struct ConfigFile {
  std::string name;
  nlohmann::json content;
};

class CheckpointClaims {
 public:
  CheckpointClaims() = default;  ///< nothing is said
  /// config.json, whole, and the side files that are there, in any order. Throws Error{bad_input} with file
  /// and key for a value of another type than the dialect's, for two files (or two spellings in one) that
  /// disagree about how the weights are stored, for a pattern that is no regular expression;
  /// Error{unsupported} for more rules than any tool writes.
  static CheckpointClaims from(std::span<const ConfigFile> files);

  /// What is said of `module`. Rules that match it and disagree on a field leave the field open: JSON objects
  /// come here without their order, so which rule is first is not known. A module that is said to be
  /// unquantized has the method and the dialect, nothing else. Throws Error{unsupported} if its codes are
  /// said to be in words of another size than 32 bits.
  Claims of(const std::string& module) const;

  /// The module is excluded by name, or not among those that the configuration applies to.
  bool says_unquantized(const std::string& module) const;

  /// "gptq 4-bit group 128 sym"; nullopt: no configuration says anything.
  std::optional<std::string> summary() const;

 private:
  struct Rules;
  std::shared_ptr<const Rules> rules_;
};

}  // namespace mpk
