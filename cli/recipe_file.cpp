#include "cli/recipe_file.hpp"

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "packer/format/error.hpp"
#include "packer/format/scalar_type.hpp"
#include "packer/io/json_file.hpp"

namespace mpk {
namespace {

using Json = nlohmann::json;

struct Key {
  std::string_view name;
  const char* option;
};
constexpr std::array kKeys{
    Key{"method", "--method"},
    Key{"bits", "--bits"},
    Key{"asymmetric", "--asymmetric"},
    Key{"group_size", "--group-size"},
    Key{"scale_dtype", "--scale-dtype"},
    Key{"ranges", "--ranges"},
    Key{"signed_scales", "--signed-scales"},
    Key{"true_sequential", "--true-sequential"},
    Key{"float_inputs", "--float-inputs"},
    Key{"act_order", "--act-order"},
    Key{"damp", "--damp"},
    Key{"target_correction", "--target-correction"},
    Key{"descent_sweeps", "--descent"},
    Key{"ignore", "--ignore"},
    Key{"layer", "--layer"},
};
constexpr std::array kCalibrationKeys{Key{"samples", "--samples"}, Key{"seq_len", "--seq-len"},
                                      Key{"seed", "--seed"}};

/// As the option would be spelled on the command line.
std::string spelled(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

void set(CLI::App& quantize, const Key& key, const Json& value) {
  CLI::Option* option = quantize.get_option(key.option);
  if (option->count() > 0) return;  // the command line has the last word
  if (value.is_array()) {
    if (value.empty()) return;
    for (const Json& item : value) option->add_result(spelled(item));
  } else {
    option->add_result(spelled(value));
  }
  try {
    option->run_callback();
  } catch (const CLI::ParseError& e) {
    throw Error{ErrorKind::usage, fmt::format("\"{}\": {}", key.name, e.what())};
  }
}

template <std::size_t kCount>
void set_known(CLI::App& quantize, const std::array<Key, kCount>& keys, const std::string& name,
               const Json& value) {
  for (const Key& key : keys)
    if (key.name == name) return set(quantize, key, value);
  std::string known;
  for (const Key& key : keys) known += fmt::format("{}{}", known.empty() ? "" : ", ", key.name);
  throw Error{ErrorKind::usage, fmt::format("unknown key \"{}\"; there are {}", name, known)};
}

/// "type" is how manifests say bits and zero points; names of dtypes are the container's there.
void apply(CLI::App& quantize, const std::string& name, const Json& value) {
  if (name == "type") {
    const auto type = scalar_type_named(spelled(value));
    if (!type) throw Error{ErrorKind::usage, fmt::format("unknown type {}", value.dump())};
    set_known(quantize, kKeys, "bits", type->bits);
    set_known(quantize, kKeys, "asymmetric", type->bias == 0);
  } else if (name == "scale_dtype" && (value == "F16" || value == "BF16")) {
    set_known(quantize, kKeys, name, value == "F16" ? "float16" : "bfloat16");
  } else if (name == "calibration" && value.is_object()) {
    for (const auto& [key, item] : value.items())
      if (key != "file" && key != "sha256") set_known(quantize, kCalibrationKeys, key, item);
  } else if (name == "calibration" && value.is_array()) {
    // Of merged statistics: several texts, and --stats has to give them again.
  } else {
    set_known(quantize, kKeys, name, value);
  }
}

}  // namespace

void apply_recipe_file(CLI::App& quantize, const std::filesystem::path& file) {
  within("recipe " + file.string(), [&] {
    const Json json = read_json_file(file);
    const Json& recipe = json.is_object() && json.contains("recipe") ? json.at("recipe") : json;
    if (!recipe.is_object()) throw Error{ErrorKind::bad_input, "there is no JSON object"};
    for (const auto& [name, value] : recipe.items()) apply(quantize, name, value);
  });
}

}  // namespace mpk
