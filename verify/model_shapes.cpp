#include "verify/model_shapes.hpp"

#include <charconv>

#include <fmt/format.h>

#include "packer/format/error.hpp"

namespace mpk {
namespace {

struct Model {
  const char* name;
  std::vector<LinearShape> shapes;
};

const std::vector<Model>& models() {
  static const std::vector<Model> table{
      {"llama3-8b",
       {{"q, o", K{4096}, N{4096}},
        {"k, v", K{4096}, N{1024}},
        {"gate, up", K{4096}, N{14336}},
        {"down", K{14336}, N{4096}}}},
      {"llama3-70b",
       {{"q, o", K{8192}, N{8192}},
        {"k, v", K{8192}, N{1024}},
        {"gate, up", K{8192}, N{28672}},
        {"down", K{28672}, N{8192}}}},
  };
  return table;
}

}  // namespace

std::vector<LinearShape> shapes_named(std::string_view name) {
  std::string names;
  for (const Model& model : models()) {
    if (name == model.name) return model.shapes;
    names += std::string{model.name} + ", ";
  }
  std::int64_t k = 0, n = 0;
  const char* const end = name.data() + name.size();
  const auto first = std::from_chars(name.data(), end, k);
  if (first.ec == std::errc{} && first.ptr != end && *first.ptr == 'x') {
    const auto second = std::from_chars(first.ptr + 1, end, n);
    if (second.ec == std::errc{} && second.ptr == end && k > 0 && n > 0) return {{"", K{k}, N{n}}};
  }
  throw Error{ErrorKind::usage, fmt::format("--shapes {}: {}or KxN, such as 4096x14336", name, names)};
}

}  // namespace mpk
