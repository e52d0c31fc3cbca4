#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <new>
#include <system_error>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/commands.hpp"
#include "cli/version.hpp"
#include "packer/format/error.hpp"
#include "quantizer/linalg/blas_kernels.hpp"

namespace {

/// OpenBLAS reads which kernels it shall run while it is loaded, before main(): so where it picked those of
/// another CPU, the program starts anew and tells it. What the user told it stays. If there is no new start,
/// all works, slower.
void choose_blas_kernels(char** argv) {
  constexpr const char* kVariable = "OPENBLAS_CORETYPE";
  if (std::getenv(kVariable) != nullptr) return;
  const auto better = mpk::better_blas_kernels(mpk::blas_kernels(), mpk::cpu_features());
  if (!better) return;
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error || setenv(kVariable, better->c_str(), 1) != 0) return;
  execv(program.c_str(), argv);
}

}  // namespace

int main(int argc, char** argv) {
  choose_blas_kernels(argv);
  CLI::App app{"marlin-pack: quantize, pack and prove checkpoints for the MARLIN kernels", "marlin-pack"};
  app.set_version_flag("--version", mpk::kVersion);
  app.require_subcommand(1);
  mpk::add_quantize(app);
  mpk::add_calibrate(app);
  mpk::add_convert(app);
  mpk::add_plan(app);
  mpk::add_unpack(app);
  mpk::add_verify(app);
  mpk::add_eval(app);
  mpk::add_inspect(app);
  mpk::add_formats(app);
  mpk::add_bench(app);
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : static_cast<int>(mpk::ErrorKind::usage);
  } catch (const mpk::Error& e) {
    fmt::print(stderr, "marlin-pack: {}\n", e.what());
    return static_cast<int>(e.kind());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "marlin-pack: out of memory\n");
    return static_cast<int>(mpk::ErrorKind::device);
  } catch (const std::exception& e) {
    fmt::print(stderr, "marlin-pack: internal error: {}\n", e.what());
    return 70;
  }
}
