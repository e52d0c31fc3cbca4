#include <memory>

#include <fmt/format.h>

#include "cli/commands.hpp"
#include "cli/pipeline/format_matrix.hpp"
#include "cli/terminal.hpp"
#include "packer/weight_format.hpp"

namespace mpk {
namespace {

struct FormatsOptions {
  bool markdown = false;
  std::string json;
};

void run(const FormatsOptions& o) {
  const std::vector<FormatRow> matrix = format_matrix();
  const Output out{o.json};
  nlohmann::ordered_json json;
  for (const WeightFormat& format : weight_formats())
    json["formats"].push_back({{"name", format.name},
                               {"family", format.family},
                               {"summary", format.summary},
                               {"reads", format.reads()},
                               {"writes", format.writes()}});
  for (const FormatRow& row : matrix) {
    nlohmann::ordered_json cells;
    for (const FormatCell& cell : row.cells)
      cells[cell.target] = {{"outcome", symbol_of(cell.outcome)}, {"detail", cell.detail}};
    json["conversions"].push_back({{"from", row.format}, {"layers", row.kind}, {"to", cells}});
  }
  if (o.markdown) {
    out.line(markdown(matrix));
  } else {
    for (const WeightFormat& format : weight_formats())
      out.line(fmt::format("{:<26} {:<5} {:<6} --to {:<20} {}", format.name, format.reads() ? "reads" : "",
                           format.writes() ? "writes" : "", format.writes() ? format.family : "-",
                           format.summary));
    out.line();
    for (const FormatRow& row : matrix) {
      std::string text;
      for (const FormatCell& cell : row.cells)
        if (cell.outcome != Outcome::refused)
          text += fmt::format("{}{} {}", text.empty() ? "" : ", ", cell.target,
                              cell.outcome == Outcome::exact ? "=" : symbol_of(cell.outcome));
      out.line(fmt::format("{}, {}: {}", row.format, row.kind, text));
    }
    out.line("= exact; anything not named is refused, with the reason when asked for");
  }
  out.json(json);
}

}  // namespace

void add_formats(CLI::App& root) {
  auto o = std::make_shared<FormatsOptions>();
  auto* cmd = root.add_subcommand("formats", "what is read, what is written, what is exact");
  cmd->add_flag("--markdown", o->markdown, "the table of the README");
  cmd->add_option("--json", o->json, "write the results to a file, or - for standard output");
  cmd->callback([o] { run(*o); });
}

}  // namespace mpk
