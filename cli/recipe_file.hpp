#pragma once
// --recipe: the options of quantize from a file.

#include <filesystem>

#include <CLI/CLI.hpp>

namespace mpk {

/// Fills in the options that were not given on the command line. `file`: a JSON object with the keys of a
/// manifest's "recipe" (FORMAT.md), or a whole marlin_pack.json, so that an artifact's recipe can be used
/// again. "bits" may stand for "type". What the calibration's "file" was is not taken over: the text is given
/// by --calibration.
/// Throws Error{usage} for unknown keys and values that the options would not take, Error{bad_input} if it is
/// no such file.
void apply_recipe_file(CLI::App& quantize, const std::filesystem::path& file);

}  // namespace mpk
