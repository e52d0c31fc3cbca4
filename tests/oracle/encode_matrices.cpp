// encode_matrices DIRECTORY: for every case of DIRECTORY/cases.json, reads the matrix from DIRECTORY/NAME.in
// and writes each tensor of the format to DIRECTORY/NAME.SUFFIX. compare.py says what stands in the files.

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "packer/format/error.hpp"
#include "packer/weight_format.hpp"

using namespace mpk;
using Json = nlohmann::json;

namespace {

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

template <class T>
void take(const std::string& bytes, std::size_t& at, T* to, Eigen::Index count) {
  const std::size_t size = static_cast<std::size_t>(count) * sizeof(T);
  if (bytes.size() - at < size) throw Error{ErrorKind::bad_input, "short input"};
  if (size != 0) std::memcpy(to, bytes.data() + at, size);
  at += size;
}

Scheme scheme_of(const Json& c) {
  Scheme scheme;
  scheme.type = *scalar_type_named(c.at("type").get<std::string>());
  scheme.group_size = group_size_from_number(c.at("group_size"));
  scheme.scale_dtype = *dtype_named(c.at("scale_dtype").get<std::string>());
  if (c.value("zero_points", false)) scheme.zero_points = ZeroPoints::integer;
  scheme.act_order = c.value("act_order", false);
  if (c.contains("global_scale")) scheme.global_scale = GlobalScale::multiplies;
  if (c.contains("activations")) scheme.activations = dtype_named(c["activations"].get<std::string>());
  return scheme;
}

void run(const std::string& directory) {
  for (const Json& c : Json::parse(read_file(directory + "/cases.json"))) {
    const std::string name = c.at("name");
    const std::string bytes = read_file(directory + "/" + name + ".in");
    QuantizedMatrix q =
        make_matrix(scheme_of(c), K{c.at("k").get<std::int64_t>()}, N{c.at("n").get<std::int64_t>()});
    std::size_t at = 0;
    take(bytes, at, q.codes.data(), q.codes.size());
    take(bytes, at, q.scales.data(), q.scales.size());
    take(bytes, at, q.zero_points.data(), q.zero_points.size());
    take(bytes, at, q.g_idx.data(), std::ssize(q.g_idx));
    q.global_scale = c.value("global_scale", 1.0f);
    for (const Part& part : weight_format_named(c.at("format").get<std::string>())->encode(q)) {
      std::ofstream out(directory + "/" + name + "." + part.suffix, std::ios::binary);
      out.write(reinterpret_cast<const char*>(part.tensor.data.data()), std::ssize(part.tensor.data));
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc == 2 ? argv[1] : ".");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "encode_matrices: %s\n", error.what());
    return 1;
  }
}
