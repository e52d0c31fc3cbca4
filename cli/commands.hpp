#pragma once
// One function per subcommand, one file per function. Each returns the process's exit code through its
// callback's Error or, when it ends normally, 0.

#include <CLI/CLI.hpp>

namespace mpk {

void add_quantize(CLI::App& root);
void add_calibrate(CLI::App& root);
void add_convert(CLI::App& root);
void add_plan(CLI::App& root);
void add_unpack(CLI::App& root);
void add_verify(CLI::App& root);
void add_eval(CLI::App& root);
void add_inspect(CLI::App& root);
void add_formats(CLI::App& root);
void add_bench(CLI::App& root);

}  // namespace mpk
