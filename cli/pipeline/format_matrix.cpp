#include "cli/pipeline/format_matrix.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "cli/pipeline/convert.hpp"
#include "packer/recode.hpp"

namespace mpk {
namespace {

constexpr K kSampleK{4096};
constexpr N kSampleN{4096};

struct Kind {
  const char* name;
  Scheme scheme;
};

/// What checkpoints of the field hold; a format is listed with those of them that it can store.
std::vector<Kind> kinds() {
  const auto group = [](std::int64_t size) { return std::optional{GroupSize{size}}; };
  const auto with = [](Scheme scheme, auto change) {
    change(scheme);
    return scheme;
  };
  const auto zeros = [](Scheme& s) { s.zero_points = ZeroPoints::integer; };
  const Scheme u4b8{kU4B8, group(128), DType::F16};
  return {
      {"4-bit symmetric", u4b8},
      {"4-bit symmetric, BF16 scales", with(u4b8, [](Scheme& s) { s.scale_dtype = DType::BF16; })},
      {"4-bit asymmetric", with({kU4, group(128), DType::F16}, zeros)},
      {"4-bit, floating-point zero points",
       with({kU4, group(64), DType::F16}, [](Scheme& s) { s.zero_points = ZeroPoints::floating; })},
      {"4-bit symmetric, act-order", with(u4b8, [](Scheme& s) { s.act_order = true; })},
      {"3-bit symmetric", {symmetric_integer(3), group(128), DType::F16}},
      {"8-bit symmetric, per column", {kU8B128, std::nullopt, DType::F16}},
      {"FP8, per column", {kE4M3, std::nullopt, DType::BF16}},
      {"FP8, 128 x 128 blocks",
       with({kE4M3, group(128), DType::F32}, [](Scheme& s) { s.columns_per_scale = 128; })},
      {"FP8, one scale",
       with({kE4M3, std::nullopt, DType::F32}, [](Scheme& s) { s.columns_per_scale = Scheme::kAllColumns; })},
      {"NVFP4",
       with({kE2M1, group(16), DType::F8_E4M3}, [](Scheme& s) { s.global_scale = GlobalScale::divides; })},
      {"NVFP4, multiplied",
       with({kE2M1, group(16), DType::F8_E4M3}, [](Scheme& s) { s.global_scale = GlobalScale::multiplies; })},
      {"MXFP4", {kE2M1, group(32), DType::F8_E8M0}},
      {"MXFP8", {kE4M3, group(32), DType::F8_E8M0}},
  };
}

/// Usual zero points and scales: none at an end of its range, none that another dtype has by luck.
MatrixFacts usual_facts(const Scheme& scheme) {
  MatrixFacts facts;
  facts.lowest_zero = 1;
  facts.highest_zero = scheme.type.max_code();
  if (scheme.global_scale != GlobalScale::none) facts.reciprocal_error = 0x1p-25;
  if (scheme.scale_dtype == DType::F16) facts.bf16_error = 0x1p-9;
  if (scheme.scale_dtype == DType::F32) facts.f16_error = 0x1p-12, facts.bf16_error = 0x1p-9;
  return facts;
}

FormatCell cell_of(const Scheme& scheme, const std::string& target) {
  const Geometry from{scheme, kSampleK, kSampleN};
  const auto rows = family_rows(target);
  RecodeOptions options;
  for (const bool widen : {false, true}) {
    options.widen = widen;
    const auto way = find_route(from, usual_facts(scheme), rows, options);
    if (const auto* why = std::get_if<std::string>(&way)) {
      if (!widen) continue;
      return {target, Outcome::refused, *why};
    }
    const auto& found = std::get<Route>(way);
    std::string detail;
    for (const std::string& note : found.notes) detail += (detail.empty() ? "" : "; ") + note;
    const Outcome outcome = widen                   ? Outcome::widened
                            : !found.exact()        ? Outcome::rescaled
                            : found.format->only_24 ? Outcome::if_24
                                                    : Outcome::exact;
    return {target, outcome, detail};
  }
  return {target, Outcome::refused, {}};
}

}  // namespace

const char* symbol_of(Outcome outcome) {
  switch (outcome) {
    case Outcome::exact:
      return "exact";
    case Outcome::if_24:
      return "exact if 2:4";
    case Outcome::widened:
      return "exact with --widen";
    case Outcome::rescaled:
      return "rescaled";
    case Outcome::floats:
      return "rounded once";
    case Outcome::refused:
      return "-";
  }
  return "?";
}

std::vector<FormatRow> format_matrix() {
  std::vector<FormatRow> matrix;
  for (const WeightFormat& format : weight_formats()) {
    if (!format.reads()) continue;
    for (const Kind& kind : kinds()) {
      if (!format.refusal || format.refusal(kind.scheme, kSampleK, kSampleN)) continue;
      FormatRow row{format.name, kind.name, format.writes(), {}};
      for (const std::string& target : writable_families()) row.cells.push_back(cell_of(kind.scheme, target));
      row.cells.push_back({kFloatTarget, Outcome::floats, {}});
      matrix.push_back(std::move(row));
    }
  }
  return matrix;
}

std::string markdown(const std::vector<FormatRow>& rows) {
  if (rows.empty()) return {};
  std::string text = "| from | layers |", rule = "| --- | --- |";
  for (const FormatCell& cell : rows.front().cells) {
    text += fmt::format(" {} |", cell.target);
    rule += " --- |";
  }
  text += "\n" + rule + "\n";
  for (const FormatRow& row : rows) {
    text += fmt::format("| {} | {} |", row.format, row.kind);
    for (const FormatCell& cell : row.cells) text += fmt::format(" {} |", symbol_of(cell.outcome));
    text += "\n";
  }
  return text;
}

}  // namespace mpk
