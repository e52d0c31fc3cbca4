#include "model/config.hpp"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "model/config_reader.hpp"
#include "model/families.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

using nlohmann::json;

// The BLAS counts in 32 bits. Layers are bounded far above any model, so that a corrupt count cannot ask for
// a vector of billions of entries.
constexpr std::int64_t kMaxExtent = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kMaxLayers = 65536;

template <class... Args>
Error bad_input(fmt::format_string<Args...> format, Args&&... args) {
  return {ErrorKind::bad_input, "config: " + fmt::format(format, std::forward<Args>(args)...)};
}

template <class... Args>
Error unsupported(fmt::format_string<Args...> format, Args&&... args) {
  return {ErrorKind::unsupported, "config: " + fmt::format(format, std::forward<Args>(args)...)};
}

std::string supported_architectures() {
  std::string names;
  for (const Family& family : kFamilies)
    names += (names.empty() ? "" : ", ") + std::string{family.architecture};
  return names;
}

const Family& family_of(const ConfigReader& config) {
  if (const json* names = config.find("architectures")) {
    if (!names->is_array() || names->size() != 1 || !names->front().is_string())
      throw bad_input("architectures is {}, expected a list of one name", brief(*names));
    for (const Family& family : kFamilies)
      if (names->front() == family.architecture) return family;
    throw unsupported("architecture {} is not one of {}", brief(names->front()), supported_architectures());
  }
  const auto model_type = config.string("model_type");
  if (!model_type) throw bad_input("neither architectures nor model_type is there");
  for (const Family& family : kFamilies)
    if (*model_type == family.model_type) return family;
  throw unsupported("model_type {} is not one of the types of {}", brief(*model_type),
                    supported_architectures());
}

bool has_bias(BiasRule rule, const ConfigReader& config, const char* key) {
  switch (rule) {
    case BiasRule::never:
      return false;
    case BiasRule::always:
      return true;
    case BiasRule::config_key:
      return config.boolean(key).value_or(false);
  }
  return false;
}

void parse_sizes(const ConfigReader& config, const Family& family, DecoderConfig& out) {
  out.hidden = config.required_integer("hidden_size", 1, kMaxExtent);
  out.intermediate = config.required_integer("intermediate_size", 1, kMaxExtent);
  out.num_layers = config.required_integer("num_hidden_layers", 1, kMaxLayers);
  out.vocab = config.required_integer("vocab_size", 1, kMaxExtent);
  out.num_heads = config.required_integer("num_attention_heads", 1, kMaxExtent);
  out.num_kv_heads = family.num_kv_heads.value_or(out.num_heads);
  if (config.mentions("num_key_value_heads"))
    out.num_kv_heads = config.integer("num_key_value_heads", 1, kMaxExtent).value_or(out.num_heads);
  if (out.num_heads % out.num_kv_heads != 0)
    throw bad_input("num_attention_heads {} is no multiple of num_key_value_heads {}", out.num_heads,
                    out.num_kv_heads);
  if (const auto head_dim = config.integer("head_dim", 1, kMaxExtent)) {
    out.head_dim = *head_dim;
  } else if (family.head_dim) {
    out.head_dim = *family.head_dim;
  } else {
    if (out.hidden % out.num_heads != 0)
      throw bad_input("there is no head_dim, and hidden_size {} is no multiple of num_attention_heads {}",
                      out.hidden, out.num_heads);
    out.head_dim = out.hidden / out.num_heads;
  }
  if (out.head_dim % 2 != 0)
    throw bad_input("head_dim {} is odd; rotary embeddings turn pairs", out.head_dim);
  if (out.head_dim > kMaxExtent / out.num_heads)
    throw bad_input("num_attention_heads {} x head_dim {} is above {}", out.num_heads, out.head_dim,
                    kMaxExtent);
}

bool slides(const json& layer_type) {
  if (layer_type == "sliding_attention") return true;
  if (layer_type == "full_attention") return false;
  throw unsupported("layer_types holds {}; known are full_attention and sliding_attention",
                    brief(layer_type));
}

/// One flag per layer of a family whose layers may differ.
std::vector<bool> sliding_layers(const ConfigReader& config, std::int64_t num_layers) {
  std::vector<bool> sliding(static_cast<std::size_t>(num_layers));
  if (const json* types = config.find("layer_types")) {
    if (!types->is_array() || types->size() != sliding.size())
      throw bad_input("layer_types is {}, expected a list of num_hidden_layers = {} names", brief(*types),
                      num_layers);
    std::transform(types->begin(), types->end(), sliding.begin(), slides);
  } else if (config.boolean("use_sliding_window").value_or(false)) {
    // With "sliding_window": null there is no window to use, whatever the switch says.
    if (config.mentions("sliding_window") && !config.find("sliding_window")) return sliding;
    constexpr std::int64_t kDefaultFirst = 28;
    const auto first = config.integer("max_window_layers", 0, kMaxExtent).value_or(kDefaultFirst);
    for (std::int64_t i = first; i < num_layers; ++i) sliding[static_cast<std::size_t>(i)] = true;
  }
  return sliding;
}

void parse_sliding_window(const ConfigReader& config, WindowRule rule, DecoderConfig& out) {
  constexpr std::int64_t kDefaultWindow = 4096;
  out.sliding_window.assign(static_cast<std::size_t>(out.num_layers), std::nullopt);
  if (rule == WindowRule::none) return;
  std::vector<bool> sliding(out.sliding_window.size(), true);
  if (rule == WindowRule::layer_types) {
    sliding = sliding_layers(config, out.num_layers);
    if (std::find(sliding.begin(), sliding.end(), true) == sliding.end()) return;
    if (!config.boolean("use_sliding_window").value_or(false))
      throw bad_input("layer_types holds sliding_attention, but use_sliding_window is not true");
  }
  auto window = config.integer("sliding_window", 1, kMaxExtent);
  if (!config.mentions("sliding_window")) window = kDefaultWindow;
  if (!window && rule == WindowRule::layer_types)
    throw bad_input("layer_types holds sliding_attention, but sliding_window is null");
  for (std::size_t i = 0; i < sliding.size(); ++i)
    if (sliding[i]) out.sliding_window[i] = window;
}

/// `spelling` is the object of rope_scaling or rope_parameters.
RopeConfig parse_rope_object(const ConfigReader& config, const ConfigReader& spelling) {
  RopeConfig rope;
  const auto outer_theta = config.positive("rope_theta"), inner_theta = spelling.positive("rope_theta");
  if (outer_theta && inner_theta && *outer_theta != *inner_theta)
    throw bad_input("rope_theta is {}, but {} is {}", *outer_theta, spelling.name("rope_theta"),
                    *inner_theta);
  rope.theta = inner_theta.value_or(outer_theta.value_or(rope.theta));

  const auto type = spelling.string("rope_type"), old_type = spelling.string("type");
  if (type && old_type && *type != *old_type)
    throw bad_input("{} is {}, but {} is {}", spelling.name("rope_type"), brief(*type), spelling.name("type"),
                    brief(*old_type));
  rope.type = type.value_or(old_type.value_or("default"));

  if (rope.type == "linear" || rope.type == "llama3") rope.factor = spelling.required_positive("factor");
  if (rope.type == "llama3") {
    rope.low_freq_factor = spelling.required_positive("low_freq_factor");
    rope.high_freq_factor = spelling.required_positive("high_freq_factor");
    if (rope.high_freq_factor <= rope.low_freq_factor)
      throw bad_input("{} {} is not above {} {}", spelling.name("high_freq_factor"), rope.high_freq_factor,
                      spelling.name("low_freq_factor"), rope.low_freq_factor);
    const auto original = spelling.integer("original_max_position_embeddings", 1, kMaxExtent);
    rope.original_max_position = static_cast<double>(
        original ? *original : config.required_integer("max_position_embeddings", 1, kMaxExtent));
  }
  if (rope.type != "default" && rope.type != "linear" && rope.type != "llama3")
    throw unsupported("{} is {}; known are default, linear and llama3",
                      spelling.name(type ? "rope_type" : "type"), brief(rope.type));
  for (const ConfigReader* reader : {&config, &spelling})
    if (const auto part = reader->positive("partial_rotary_factor"); part && *part != 1.0)
      throw unsupported("{} is {}; only whole heads can be rotated", reader->name("partial_rotary_factor"),
                        *part);
  return rope;
}

RopeConfig parse_rope(const ConfigReader& config) {
  static const json kNothing = json::object();
  const json* scaling = config.find("rope_scaling");
  const json* parameters = config.find("rope_parameters");
  const auto parse = [&](const json& object, const char* name) {
    const ConfigReader spelling{object, name};
    for (const auto& [key, value] : object.items())
      if (value.is_object())
        throw unsupported("{} is an object: rotary embeddings that differ by layer type",
                          spelling.name(key.c_str()));
    return parse_rope_object(config, spelling);
  };
  if (scaling && parameters && parse(*scaling, "rope_scaling") != parse(*parameters, "rope_parameters"))
    throw bad_input("rope_scaling {} and rope_parameters {} disagree", brief(*scaling), brief(*parameters));
  if (parameters) return parse(*parameters, "rope_parameters");
  return parse(scaling ? *scaling : kNothing, "rope_scaling");
}

}  // namespace

DecoderConfig parse_config(const json& object) {
  const ConfigReader config{object, ""};
  const Family& family = family_of(config);
  if (const auto act = config.string("hidden_act"); act && *act != "silu")
    throw unsupported("hidden_act is {}; known is silu", brief(*act));

  DecoderConfig out;
  out.architecture = family.architecture;
  parse_sizes(config, family, out);
  out.norm_eps = config.positive("rms_norm_eps").value_or(1e-6);
  out.qkv_bias = has_bias(family.qkv_bias, config, "attention_bias");
  out.o_bias = has_bias(family.o_bias, config, "attention_bias");
  out.mlp_bias = has_bias(family.mlp_bias, config, "mlp_bias");
  out.qk_norm = family.qk_norm;
  out.tied_embeddings = config.boolean("tie_word_embeddings").value_or(false);
  parse_sliding_window(config, family.window, out);
  out.rope = parse_rope(config);
  return out;
}

}  // namespace mpk
