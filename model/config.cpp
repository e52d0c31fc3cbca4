#include "model/config.hpp"

#include <algorithm>
#include <cmath>
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
constexpr std::int64_t kMaxLayers = 65536, kMaxHeadDim = 1 << 20;

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

bool is_number(const json& value) {
  return value.is_number() && std::isfinite(value.get<double>()) && value.get<double>() > 0;
}

std::vector<double> required_factors(const ConfigReader& config, const char* key) {
  const json* list = config.find(key);
  if (!list) throw bad_input("{} is missing", config.name(key));
  if (!list->is_array() || !std::all_of(list->begin(), list->end(), is_number))
    throw bad_input("{} is {}, expected a list of numbers above 0", config.name(key), brief(*list));
  return list->get<std::vector<double>>();
}

void parse_latent(const ConfigReader& config, DecoderConfig& out) {
  LatentAttention& latent = out.latent.emplace();
  latent.q_rank = config.integer("q_lora_rank", 1, kMaxExtent).value_or(0);
  latent.kv_rank = config.required_integer("kv_lora_rank", 1, kMaxExtent);
  latent.rope_dim = config.required_integer("qk_rope_head_dim", 2, kMaxHeadDim);
  latent.value_dim = config.required_integer("v_head_dim", 1, kMaxHeadDim);
  latent.interleaved = config.boolean("rope_interleave").value_or(true);
  out.head_dim = config.required_integer("qk_nope_head_dim", 2, kMaxHeadDim) + latent.rope_dim;
  out.num_kv_heads = out.num_heads;
  if (latent.rope_dim % 2 != 0 || out.head_dim % 2 != 0)
    throw bad_input("qk_rope_head_dim {} and qk_nope_head_dim {} must be even", latent.rope_dim,
                    out.head_dim - latent.rope_dim);
  if (out.head_dim + latent.value_dim > kMaxExtent / out.num_heads)
    throw bad_input("num_attention_heads {} x {} elements of a head is above {}", out.num_heads,
                    out.head_dim + latent.value_dim, kMaxExtent);
}

void parse_sizes(const ConfigReader& config, const Family& family, DecoderConfig& out) {
  out.hidden = config.required_integer("hidden_size", 1, kMaxExtent);
  out.intermediate = config.required_integer("intermediate_size", 1, kMaxExtent);
  out.num_layers = config.required_integer("num_hidden_layers", 1, kMaxLayers);
  const auto integer_or = [&](const char* key, std::optional<std::int64_t> otherwise) {
    return otherwise ? config.integer(key, 1, kMaxExtent).value_or(*otherwise)
                     : config.required_integer(key, 1, kMaxExtent);
  };
  out.vocab = integer_or("vocab_size", family.vocab);
  out.num_heads = integer_or("num_attention_heads", family.num_heads);
  if (family.latent) return parse_latent(config, out);
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
std::vector<bool> sliding_layers(const ConfigReader& config, const Family& family, std::int64_t num_layers) {
  std::vector<bool> sliding(static_cast<std::size_t>(num_layers));
  if (const json* types = config.find("layer_types")) {
    if (!types->is_array() || types->size() != sliding.size())
      throw bad_input("layer_types is {}, expected a list of num_hidden_layers = {} names", brief(*types),
                      num_layers);
    std::transform(types->begin(), types->end(), sliding.begin(), slides);
  } else if (family.window == WindowRule::pattern) {
    const auto pattern =
        config.integer("sliding_window_pattern", 1, kMaxExtent).value_or(family.window_pattern);
    for (std::int64_t i = 0; i < num_layers; ++i)
      sliding[static_cast<std::size_t>(i)] = (i + 1) % pattern != 0;
  } else if (config.boolean("use_sliding_window").value_or(false)) {
    // With "sliding_window": null there is no window to use, whatever the switch says.
    if (config.mentions("sliding_window") && !config.find("sliding_window")) return sliding;
    constexpr std::int64_t kDefaultFirst = 28;
    const auto first = config.integer("max_window_layers", 0, kMaxExtent).value_or(kDefaultFirst);
    for (std::int64_t i = first; i < num_layers; ++i) sliding[static_cast<std::size_t>(i)] = true;
  }
  return sliding;
}

void parse_sliding_window(const ConfigReader& config, const Family& family, DecoderConfig& out) {
  const WindowRule rule = family.window;
  out.sliding_window.assign(static_cast<std::size_t>(out.num_layers), std::nullopt);
  if (rule == WindowRule::none) return;
  if (rule == WindowRule::switched && !config.boolean("use_sliding_window").value_or(false)) return;
  std::vector<bool> sliding(out.sliding_window.size(), true);
  const bool differ = rule == WindowRule::layer_types || rule == WindowRule::pattern;
  if (differ) {
    sliding = sliding_layers(config, family, out.num_layers);
    if (std::find(sliding.begin(), sliding.end(), true) == sliding.end()) return;
    if (rule == WindowRule::layer_types && !config.boolean("use_sliding_window").value_or(false))
      throw bad_input("layer_types holds sliding_attention, but use_sliding_window is not true");
  }
  auto window = config.integer("sliding_window", 1, kMaxExtent);
  if (!config.mentions("sliding_window")) window = family.default_window;
  if (!window && differ)
    throw bad_input("{}, but sliding_window is null", config.find("layer_types")
                                                          ? "layer_types holds sliding_attention"
                                                          : "some layers attend to a sliding window");
  for (std::size_t i = 0; i < sliding.size(); ++i)
    if (sliding[i]) out.sliding_window[i] = window;
}

void parse_longrope(const ConfigReader& config, const ConfigReader& spelling, RopeConfig& rope) {
  rope.short_factor = required_factors(spelling, "short_factor");
  rope.long_factor = required_factors(spelling, "long_factor");
  const char* key = "original_max_position_embeddings";
  auto original = config.integer(key, 2, kMaxExtent);  // has precedence, as in transformers
  if (!original) original = spelling.integer(key, 2, kMaxExtent);
  constexpr std::int64_t kDefaultOriginal = 4096;
  rope.original_max_position = static_cast<double>(original.value_or(kDefaultOriginal));
  rope.factor = spelling.positive("factor").value_or(
      static_cast<double>(config.integer("max_position_embeddings", 1, kMaxExtent).value_or(4096)) /
      rope.original_max_position);
  if (const auto attention = spelling.positive("attention_factor"))
    rope.attention_factor = *attention;
  else if (rope.factor > 1)
    rope.attention_factor = std::sqrt(1 + std::log(rope.factor) / std::log(rope.original_max_position));
}

double yarn_scale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

void parse_yarn(const ConfigReader& config, const ConfigReader& spelling, RopeConfig& rope) {
  const char* key = "original_max_position_embeddings";
  auto original = config.integer(key, 1, kMaxExtent);
  if (!original) original = spelling.integer(key, 1, kMaxExtent);
  if (!original) original = config.required_integer("max_position_embeddings", 1, kMaxExtent);
  rope.original_max_position = static_cast<double>(*original);
  rope.factor = spelling.required_positive("factor");
  rope.beta_fast = spelling.positive("beta_fast").value_or(rope.beta_fast);
  rope.beta_slow = spelling.positive("beta_slow").value_or(rope.beta_slow);
  rope.truncate = spelling.boolean("truncate").value_or(true);
  const auto attention = spelling.positive("attention_factor"), mscale = spelling.nonzero("mscale"),
             all_dim = spelling.nonzero("mscale_all_dim");
  if (attention)
    rope.attention_factor = *attention;
  else if (mscale && all_dim)
    rope.attention_factor = yarn_scale(rope.factor, *mscale) / yarn_scale(rope.factor, *all_dim);
  else
    rope.attention_factor = yarn_scale(rope.factor, 1);
}

/// `spelling` is the object of rope_scaling or rope_parameters.
RopeConfig parse_rope_object(const ConfigReader& config, const Family& family, const ConfigReader& spelling) {
  RopeConfig rope;
  rope.theta = family.rope_theta;
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
  if (family.longrope && rope.type == "su") rope.type = "longrope";  // its name at first

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
  if (family.longrope && rope.type == "longrope")
    parse_longrope(config, spelling, rope);
  else if (!family.longrope && rope.type == "yarn")
    parse_yarn(config, spelling, rope);
  else if (rope.type != "default" && rope.type != "linear" && rope.type != "llama3")
    throw unsupported("{} is {}; known are default, linear, llama3 and {}",
                      spelling.name(type ? "rope_type" : "type"), brief(rope.type),
                      family.longrope ? "longrope" : "yarn");
  return rope;
}

/// The first elements of a head are rotated, the rest passes.
void parse_rotary_dim(const ConfigReader& config, const Family& family, const ConfigReader& spelling,
                      DecoderConfig& out) {
  for (const ConfigReader* reader : {&spelling, &config})
    if (const auto part = reader->positive("partial_rotary_factor"); part && *part != 1.0) {
      const auto key = reader->name("partial_rotary_factor");
      if (!family.partial_rotary) throw unsupported("{} is {}; only whole heads can be rotated", key, *part);
      const auto rotated = static_cast<double>(out.head_dim) * *part;
      if (!(*part < 1) || rotated < 2 || static_cast<std::int64_t>(rotated) % 2 != 0)
        throw bad_input("{} {} of head_dim {} is no even number of elements", key, *part, out.head_dim);
      out.rotary_dim = static_cast<std::int64_t>(rotated);
      return;
    }
}

/// Of all layers.
RopeConfig parse_shared_rope(const ConfigReader& config, const Family& family, DecoderConfig& out) {
  static const json kNothing = json::object();
  const json* scaling = config.find("rope_scaling");
  const json* parameters = config.find("rope_parameters");
  const auto parse = [&](const json& object, const char* name) {
    const ConfigReader spelling{object, name};
    for (const auto& [key, value] : object.items())
      if (value.is_object())
        throw unsupported("{} is an object: rotary embeddings that differ by layer type",
                          spelling.name(key.c_str()));
    parse_rotary_dim(config, family, spelling, out);
    RopeConfig rope = parse_rope_object(config, family, spelling);
    if (out.latent && rope.type == "yarn")
      if (const auto all_dim = spelling.nonzero("mscale_all_dim")) {
        const double scale = yarn_scale(rope.factor, *all_dim);
        out.attention_scale = scale * scale / std::sqrt(static_cast<double>(out.head_dim));
      }
    for (const auto* factors : {&rope.short_factor, &rope.long_factor})
      if (rope.type == "longrope" && std::ssize(*factors) != out.num_rotated() / 2)
        throw bad_input("{} has {} factors for {} rotated elements of a head", name, factors->size(),
                        out.num_rotated());
    return rope;
  };
  if (scaling && parameters && parse(*scaling, "rope_scaling") != parse(*parameters, "rope_parameters"))
    throw bad_input("rope_scaling {} and rope_parameters {} disagree", brief(*scaling), brief(*parameters));
  if (parameters) return parse(*parameters, "rope_parameters");
  return parse(scaling ? *scaling : kNothing, "rope_scaling");
}

/// One for layers with full attention, another for those with a sliding window: either both in
/// "rope_parameters", or as "rope_theta" with "rope_scaling", and "rope_local_base_freq".
void parse_rope(const ConfigReader& config, const Family& family, DecoderConfig& out) {
  if (family.sliding_rope_theta == 0) {
    out.rope = parse_shared_rope(config, family, out);
    return;
  }
  Family sliding = family;
  sliding.rope_theta = family.sliding_rope_theta;
  static const json kNothing = json::object();
  if (const json* both = config.find("rope_parameters")) {
    const ConfigReader reader{*both, "rope_parameters"};
    const auto parse = [&](const char* key, const Family& defaults) {
      const json* object = reader.find(key);
      const ConfigReader spelling{object ? *object : kNothing, reader.name(key)};
      return parse_rope_object(ConfigReader{kNothing, ""}, defaults, spelling);
    };
    for (const auto& [key, value] : both->items())
      if (key != "full_attention" && key != "sliding_attention")
        throw unsupported("{} is not one of full_attention and sliding_attention", reader.name(key.c_str()));
    if (config.find("rope_scaling"))
      throw unsupported("rope_scaling and rope_parameters in one config of {}", family.architecture);
    out.rope = parse("full_attention", family);
    out.sliding_rope = parse("sliding_attention", sliding);
    return;
  }
  out.rope = parse_shared_rope(config, family, out);
  out.sliding_rope.emplace().theta = config.positive("rope_local_base_freq").value_or(sliding.rope_theta);
}

void parse_activation(const ConfigReader& config, const Family& family, DecoderConfig& out) {
  const auto name = config.string(family.activation_key);
  out.activation = family.activation;
  if (!name) return;
  if (*name == "silu")
    out.activation = Activation::silu;
  else if (*name == "gelu_pytorch_tanh")
    out.activation = Activation::gelu_tanh;
  else
    throw unsupported("{} is {}; known are silu and gelu_pytorch_tanh", family.activation_key, brief(*name));
}

/// null switches a softcap off, without its key it is `otherwise`.
std::optional<double> softcap(const ConfigReader& config, const char* key, std::optional<double> otherwise) {
  return config.mentions(key) ? config.positive(key) : otherwise;
}

void parse_scales(const ConfigReader& config, const Family& family, DecoderConfig& out) {
  if (family.gemma) {
    out.norm_offset = 1;
    out.output_norms = true;
    out.embedding_scale = std::sqrt(static_cast<double>(out.hidden));
    if (config.boolean("use_bidirectional_attention").value_or(false))
      throw unsupported("use_bidirectional_attention is true; attention is causal here");
  }
  if (family.query_scalar)
    out.attention_scale =
        1 / std::sqrt(config.positive("query_pre_attn_scalar").value_or(*family.query_scalar));
  if (family.attention_softcap)
    out.attention_softcap = softcap(config, "attn_logit_softcapping", family.attention_softcap);
  if (family.logit_softcap_key)
    out.logit_softcap = softcap(config, "final_logit_softcapping", family.logit_softcap);
}

void parse_deepseek_experts(const ConfigReader& config, const ExpertsFamily& family, DecoderConfig& out) {
  ExpertsConfig& experts = out.experts;
  const auto refuse_other = [&](const char* key, std::string_view known) {
    if (const auto value = config.string(key); value && *value != known)
      throw unsupported("{} is {}; known of {} is {}", key, brief(*value), out.architecture, known);
  };
  refuse_other("scoring_func", family.sigmoid ? "sigmoid" : "softmax");
  const bool greedy = !family.sigmoid && config.string("topk_method").value_or("greedy") == "greedy";
  if (!greedy) refuse_other("topk_method", family.sigmoid ? "noaux_tc" : "group_limited_greedy");
  if (const auto every = config.integer("moe_layer_freq", 1, kMaxExtent); every && *every != 1)
    throw unsupported("moe_layer_freq is {}; known is 1", *every);
  // Of DeepSeek-V2 transformers ignores the key and the model's own code does not.
  if (!family.sigmoid && config.boolean("norm_topk_prob").value_or(false))
    throw unsupported("norm_topk_prob is true; readers of {} disagree on what it means", out.architecture);
  if (family.sigmoid) experts.normalized = config.boolean("norm_topk_prob").value_or(true);
  experts.sigmoid = experts.selection_bias = family.sigmoid;
  experts.scale = config.positive("routed_scaling_factor").value_or(family.sigmoid ? 2.5 : 1.0);
  if (!greedy) {
    experts.groups = config.required_integer("n_group", 1, experts.count);
    experts.groups_per_token = config.required_integer("topk_group", 1, experts.groups);
    experts.scores_per_group = family.sigmoid ? 2 : 1;
    const std::int64_t size = experts.count / experts.groups;
    if (experts.count % experts.groups != 0 || size < experts.scores_per_group)
      throw bad_input("{} experts do not make n_group {} groups", experts.count, experts.groups);
    if (experts.per_token > experts.groups_per_token * size)
      throw bad_input("num_experts_per_tok {} is above topk_group {} x {} experts", experts.per_token,
                      experts.groups_per_token, size);
  }
  const auto shared = config.required_integer("n_shared_experts", 1, 65536);
  if (shared > kMaxExtent / experts.intermediate)
    throw bad_input("n_shared_experts {} x {} is above {}", shared, experts.intermediate, kMaxExtent);
  experts.shared_intermediate = shared * experts.intermediate;
  const auto dense = config.integer("first_k_dense_replace", 0, kMaxExtent).value_or(family.sigmoid ? 3 : 0);
  for (std::int64_t i = 0; i < std::min(dense, out.num_layers); ++i)
    experts.layers[static_cast<std::size_t>(i)] = false;
}

void parse_experts(const ConfigReader& config, const Family& family, DecoderConfig& out) {
  if (!family.experts) return;
  const ExpertsFamily& names = *family.experts;
  ExpertsConfig& experts = out.experts;
  constexpr std::int64_t kMaxExperts = 65536;
  const char* names_of_count[] = {names.deepseek ? "n_routed_experts" : "num_experts", "num_local_experts"};
  const auto count = config.integer(names_of_count[0], 1, kMaxExperts),
             local = config.integer(names_of_count[1], 1, kMaxExperts);
  if (count && local && *count != *local)
    throw bad_input("{} is {}, but {} is {}", names_of_count[0], *count, names_of_count[1], *local);
  if (!count && !local) throw bad_input("neither {} nor {} is there", names_of_count[0], names_of_count[1]);
  experts.count = count ? *count : *local;
  experts.per_token = config.required_integer("num_experts_per_tok", 1, experts.count);
  experts.intermediate = config.required_integer(names.intermediate_key, 1, kMaxExtent);
  experts.normalized =
      names.normalized ? *names.normalized : config.boolean("norm_topk_prob").value_or(false);
  experts.block = names.block;
  experts.gate = names.gate;
  experts.up = names.up;
  experts.down = names.down;
  experts.layers.assign(static_cast<std::size_t>(out.num_layers), true);
  if (names.deepseek) return parse_deepseek_experts(config, names, out);
  if (!names.has_sparse_step) return;
  const auto step = config.integer("decoder_sparse_step", 1, kMaxExtent).value_or(1);
  for (std::int64_t i = 0; i < out.num_layers; ++i)
    experts.layers[static_cast<std::size_t>(i)] = (i + 1) % step == 0;
  const json* dense = config.find("mlp_only_layers");
  if (!dense) return;
  if (!dense->is_array()) throw bad_input("mlp_only_layers is {}, expected a list", brief(*dense));
  for (const json& layer : *dense) {
    if (!layer.is_number_integer()) throw bad_input("mlp_only_layers holds {}", brief(layer));
    for (std::int64_t i = 0; i < out.num_layers; ++i)
      if (layer == i) experts.layers[static_cast<std::size_t>(i)] = false;
  }
}

}  // namespace

bool DecoderConfig::is_plain_dense() const {
  return !fused_qkv && !fused_gate_up && activation == Activation::silu && norm_offset == 0 &&
         !output_norms && embedding_scale == 1 && !attention_scale && !attention_softcap && !logit_softcap &&
         !rotary_dim && !sliding_rope && !latent && experts.count == 0 && rope.type != "longrope" &&
         rope.type != "yarn";
}

DecoderConfig parse_config(const json& object) {
  const ConfigReader whole{object, ""};
  const Family& family = family_of(whole);
  const json* part = family.text_config ? whole.find("text_config") : &object;
  if (!part) throw bad_input("text_config is missing, where {} has its decoder", family.architecture);
  const ConfigReader config{*part, family.text_config ? "text_config" : ""};

  DecoderConfig out;
  out.architecture = family.architecture;
  parse_sizes(config, family, out);
  out.norm_eps = config.positive("rms_norm_eps").value_or(family.norm_eps);
  out.qkv_bias = has_bias(family.qkv_bias, config, "attention_bias");
  out.o_bias = has_bias(family.o_bias, config, "attention_bias");
  out.mlp_bias = has_bias(family.mlp_bias, config, "mlp_bias");
  out.qk_norm = family.qk_norm;
  out.tied_embeddings = config.boolean("tie_word_embeddings")
                            .value_or(whole.boolean("tie_word_embeddings").value_or(family.tied_embeddings));
  out.fused_qkv = family.fused_qkv;
  out.fused_gate_up = family.fused_gate_up;
  parse_activation(config, family, out);
  parse_scales(config, family, out);
  parse_sliding_window(config, family, out);
  parse_rope(config, family, out);
  parse_experts(config, family, out);
  return out;
}

}  // namespace mpk
