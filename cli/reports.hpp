#pragma once
// Results as tables for people and as JSON for machines.

#include <nlohmann/json.hpp>

#include "cli/pipeline/convert.hpp"
#include "cli/pipeline/quantize.hpp"
#include "cli/pipeline/quantize_estimate.hpp"
#include "cli/terminal.hpp"
#include "verify/report.hpp"

namespace mpk {

void print_estimate(const QuantizeEstimate& estimate, const Output& out);
nlohmann::ordered_json to_json(const QuantizeEstimate& estimate);

void print_quantize(const QuantizeReport& report, const Output& out);
nlohmann::ordered_json to_json(const QuantizeReport& report);

/// One line per kind of layer and target.
void print_convert(const ConvertReport& report, const Output& out);
nlohmann::ordered_json to_json(const ConvertReport& report);

/// One row per layer.
void print_layers(const VerifyReport& report, const Output& out);
/// The failures, if any, and one line of verdict.
void print_verdict(const VerifyReport& report, const Output& out);
nlohmann::ordered_json to_json(const VerifyReport& report);

}  // namespace mpk
