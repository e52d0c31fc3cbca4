#pragma once
// What verification found, as data. Printing is the command line's job.

#include <optional>
#include <string>
#include <vector>

#include "verify/gemm_check.hpp"
#include "verify/integrity.hpp"

namespace mpk {

struct LayerCheck {
  std::string module;
  Scheme scheme;
  K k;
  N n;
  bool round_trip = false;  ///< unpacked, and packed again: the artifact's bytes
  bool codes_recorded =
      false;  ///< the unpacked codes are the ones the quantizer made (SHA-256 in the manifest)
  bool decoders_agree = false;  ///< packer and fragment decoder read the same codes and scales
  std::string kernel;           ///< what multiplied: the GPU's name, or "CPU decoder"
  std::vector<GemmCheck> products;
  std::optional<double> weight_error, output_error;
  std::vector<std::string> failures;

  double worst_product() const {
    double worst = 0;
    for (const GemmCheck& check : products) worst = std::max(worst, check.worst);
    return worst;
  }
};

struct VerifyReport {
  std::string format;
  IntegrityReport integrity;
  std::vector<LayerCheck> layers;
  std::vector<std::string> failures;  ///< of the artifact as a whole
  std::string note;                   ///< what was not checked, and why; empty if everything was
  bool passed() const;
  /// All failures, each with where it happened.
  std::vector<std::string> all_failures() const;
};

}  // namespace mpk
