#include "packer/recode.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/float_bits.hpp"
#include "packer/sparse24.hpp"

namespace mpk {
namespace {

double rounding_error(float value, DType dtype) {
  std::byte bytes[4];
  store_rounded(value, dtype, bytes);
  const float back = load_float(bytes, dtype);
  if (std::bit_cast<std::uint32_t>(back) == std::bit_cast<std::uint32_t>(value)) return 0;
  if (!std::isfinite(back)) return std::numeric_limits<double>::infinity();
  return std::abs(static_cast<double>(back) - static_cast<double>(value)) /
         std::abs(static_cast<double>(value));
}

/// Of scales and floating-point zero points in that dtype.
double error_in(const MatrixFacts& facts, DType dtype) {
  return dtype == DType::F16 ? facts.f16_error : dtype == DType::BF16 ? facts.bf16_error : 0;
}

float rounded(float value, DType dtype) {
  if (is_representable(value, dtype)) return value;
  std::byte bytes[4];
  store_rounded(value, dtype, bytes);
  return load_float(bytes, dtype);
}

bool stores_zeros(const Scheme& scheme) {
  return scheme.zero_points == ZeroPoints::integer;
}

/// A scheme on the way, what the way cost so far, and what was done.
struct Candidate {
  Scheme scheme;
  int steps = 0;
  double scale_error = 0;
  std::vector<std::string> notes = {};

  Candidate then(int cost, const std::string& note) const {
    Candidate next = *this;
    next.steps += cost;
    if (!note.empty()) next.notes.push_back(note);
    return next;
  }
};

/// Every candidate once as it is and once per step that `step` adds.
template <class Step>
void branch(std::vector<Candidate>& candidates, Step step) {
  std::vector<Candidate> more;
  for (const Candidate& candidate : candidates) step(candidate, more);
  candidates.insert(candidates.end(), more.begin(), more.end());
}

void change_zeros(std::vector<Candidate>& candidates, const MatrixFacts& facts) {
  branch(candidates, [&](const Candidate& from, std::vector<Candidate>& out) {
    if (!from.scheme.type.is_integer()) return;
    if (from.scheme.zero_points == ZeroPoints::implied) {
      Candidate next = from.then(1, fmt::format("zero point {} stored", from.scheme.type.bias));
      next.scheme.type = unsigned_integer(from.scheme.type.bits);
      next.scheme.zero_points = ZeroPoints::integer;
      out.push_back(next);
    } else if (stores_zeros(from.scheme) && facts.zeros_are_middle) {
      Candidate next = from.then(1, "zero points, all in the middle, implied");
      next.scheme.type = symmetric_integer(from.scheme.type.bits);
      next.scheme.zero_points = ZeroPoints::implied;
      out.push_back(next);
    }
  });
}

void widen(std::vector<Candidate>& candidates) {
  branch(candidates, [&](const Candidate& from, std::vector<Candidate>& out) {
    if (!from.scheme.type.is_integer() || from.scheme.type.bits >= 8) return;
    const auto to = [&](ScalarType type, const char* note) {
      Candidate next = from.then(20, note);
      next.scheme.type = type;
      if (from.scheme.zero_points != ZeroPoints::floating)
        next.scheme.zero_points = type.bias == 0 ? ZeroPoints::integer : ZeroPoints::implied;
      out.push_back(next);
    };
    const bool small = from.scheme.type.bits < 4;
    if (stores_zeros(from.scheme)) {
      if (small) to(kU4, "codes widened to 4 bits");
      to(kU8B128, "codes less their zero points widened to 8 bits");
    } else if (from.scheme.zero_points == ZeroPoints::floating) {
      if (small) to(kU4, "codes widened to 4 bits");
    } else if (from.scheme.zero_points == ZeroPoints::implied) {
      to(small ? kU4B8 : kU8B128, small ? "codes widened to 4 bits" : "codes widened to 8 bits");
    }
  });
}

void change_scale_dtype(std::vector<Candidate>& candidates, const MatrixFacts& facts, DType preferred) {
  branch(candidates, [&](const Candidate& from, std::vector<Candidate>& out) {
    const DType now = from.scheme.scale_dtype;
    if (now == DType::F8_E4M3 || now == DType::F8_E8M0) return;
    for (const DType dtype : {DType::F16, DType::BF16, DType::F32}) {
      if (dtype == now) continue;
      const double error = error_in(facts, dtype);
      if (std::isinf(error)) continue;
      Candidate next = from.then(error == 0           ? 2
                                 : dtype == preferred ? 10
                                                      : 12,
                                 fmt::format("scales {} -> {}", info(now).name, info(dtype).name));
      next.scheme.scale_dtype = dtype;
      next.scale_error = error;
      out.push_back(next);
    }
  });
}

void split_groups(std::vector<Candidate>& candidates, K k) {
  branch(candidates, [&](const Candidate& from, std::vector<Candidate>& out) {
    if (from.scheme.act_order) return;
    const std::int64_t now = from.scheme.rows_per_group(k);
    for (const std::int64_t size : {128, 64, 32}) {
      if (size >= now || now % size != 0 || k.value % size != 0) continue;
      Candidate next =
          from.then(4, fmt::format("scales repeated, a group of {} rows as {} of {}", now, now / size, size));
      next.scheme.group_size = GroupSize{size};
      out.push_back(next);
    }
  });
}

void change_spelling(std::vector<Candidate>& candidates, const MatrixFacts& facts) {
  branch(candidates, [&](const Candidate& from, std::vector<Candidate>& out) {
    if (from.scheme.columns_per_scale == 1) return;
    Candidate next = from.then(1, "scales repeated for every column");
    next.scheme.columns_per_scale = 1;
    out.push_back(next);
  });
  branch(candidates, [&](const Candidate& from, std::vector<Candidate>& out) {
    if (from.scheme.global_scale == GlobalScale::none) return;
    const bool divides = from.scheme.global_scale == GlobalScale::divides;
    Candidate next = from.then(1, "reciprocal of the global scale");
    next.scale_error = std::max(next.scale_error, facts.reciprocal_error);
    next.scheme.global_scale = divides ? GlobalScale::multiplies : GlobalScale::divides;
    out.push_back(next);
  });
}

/// Sizes to try: as it is, then rounded up to what tiles and groups want.
std::vector<std::pair<K, N>> sizes(K k, N n, const Scheme& scheme, bool pad) {
  std::vector<std::pair<K, N>> result{{k, n}};
  if (!pad) return result;
  const std::int64_t group = scheme.group_size ? scheme.group_size->value : 1;
  const auto up = [](std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit * unit; };
  for (const auto& [unit_k, unit_n] : {std::pair{128, 64}, {64, 128}, {128, 128}, {128, 256}}) {
    const std::int64_t lcm = std::lcm<std::int64_t>(unit_k, group);
    result.emplace_back(K{up(k.value, lcm)}, N{up(n.value, unit_n)});
  }
  std::ranges::stable_sort(result, {}, [](const auto& size) { return size.first.value * size.second.value; });
  return result;
}

std::optional<Route> try_row(const WeightFormat& row, const Geometry& from, const Candidate& candidate,
                             const MatrixFacts& facts, bool pad) {
  const Scheme& scheme = candidate.scheme;
  if (stores_zeros(scheme) && stores_zeros(from.scheme) &&
      (facts.lowest_zero < row.lowest_zero || facts.highest_zero > scheme.type.max_code() + row.lowest_zero))
    return std::nullopt;
  if (row.only_24 && !facts.is_24) return std::nullopt;
  for (const auto& [k, n] : sizes(from.k, from.n, scheme, pad)) {
    if (row.refusal(scheme, k, n)) continue;
    Route found{&row, {scheme, k, n}, candidate.scale_error, candidate.notes};
    if (k != from.k || n != from.n)
      found.notes.push_back(fmt::format("padded with zero weights from {} x {} to {} x {}", from.k.value,
                                        from.n.value, k.value, n.value));
    return found;
  }
  return std::nullopt;
}

/// One sentence for the row that came closest.
std::string why_not(const Geometry& from, const MatrixFacts& facts,
                    std::span<const WeightFormat* const> rows) {
  const WeightFormat& row = *rows.front();
  if (row.only_24 && !facts.is_24)
    return fmt::format("{} holds codes with two zeros in every four of a column, and these are not so",
                       row.name);
  if (stores_zeros(from.scheme) && !row.refusal(from.scheme, from.k, from.n))
    return fmt::format("zero points from {} to {}; {} stores {} to {}{}", facts.lowest_zero,
                       facts.highest_zero, row.name, row.lowest_zero,
                       from.scheme.type.max_code() + row.lowest_zero,
                       row.lowest_zero == 1 ? "; gptq-v2 holds them" : "");
  std::string reasons;
  for (const WeightFormat* each : rows) {
    const auto reason = each->refusal(from.scheme, from.k, from.n);
    if (reason && reasons.find(*reason) == std::string::npos)
      reasons += (reasons.empty() ? "" : "; ") + *reason;
  }
  return reasons;
}

}  // namespace

void MatrixFacts::add(const QuantizedMatrix& q) {
  if (q.zero_points.size() > 0) {
    const int lowest = q.zero_points.minCoeff(), highest = q.zero_points.maxCoeff();
    lowest_zero = std::min(lowest_zero, lowest);
    highest_zero = std::max(highest_zero, highest);
    const int middle = 1 << (q.scheme.type.bits - 1);
    zeros_are_middle = lowest_zero == middle && highest_zero == middle;
  }
  for (Eigen::Index i = 0; i < q.scales.size(); ++i) {
    const float scale = q.scales.data()[i];
    f16_error = std::max(f16_error, rounding_error(scale, DType::F16));
    bf16_error = std::max(bf16_error, rounding_error(scale, DType::BF16));
  }
  for (Eigen::Index i = 0; i < q.float_zeros.size(); ++i) {
    const float zero = q.float_zeros.data()[i];
    f16_error = std::max(f16_error, rounding_error(zero, DType::F16));
    bf16_error = std::max(bf16_error, rounding_error(zero, DType::BF16));
  }
  if (q.scheme.global_scale != GlobalScale::none) {
    const double exact = 1.0 / static_cast<double>(q.global_scale);
    reciprocal_error = std::max(
        reciprocal_error, std::abs(static_cast<double>(1.0f / q.global_scale) - exact) / std::abs(exact));
  }
  is_24 = is_24 && mpk::is_24(q);
}

void MatrixFacts::add(const MatrixFacts& other) {
  zeros_are_middle = other.zeros_are_middle && (highest_zero < 0 || zeros_are_middle);
  lowest_zero = std::min(lowest_zero, other.lowest_zero);
  highest_zero = std::max(highest_zero, other.highest_zero);
  f16_error = std::max(f16_error, other.f16_error);
  bf16_error = std::max(bf16_error, other.bf16_error);
  reciprocal_error = std::max(reciprocal_error, other.reciprocal_error);
  is_24 = is_24 && other.is_24;
}

std::string Route::exactness() const {
  return exact() ? "exact"
                 : fmt::format(
                       "rescaled ({} off by at most {:.1e} of themselves)",
                       to.scheme.zero_points == ZeroPoints::floating ? "scales and zero points" : "scales",
                       scale_error);
}

std::variant<Route, std::string> find_route(const Geometry& from, const MatrixFacts& facts,
                                            std::span<const WeightFormat* const> rows,
                                            const RecodeOptions& options) {
  std::vector<Candidate> candidates{{from.scheme}};
  // Floating-point zero points take the dtype of the scales, which may be less than they came in.
  if (from.scheme.zero_points == ZeroPoints::floating)
    candidates.front().scale_error = error_in(facts, from.scheme.scale_dtype);
  change_zeros(candidates, facts);
  if (options.widen) widen(candidates);
  change_scale_dtype(candidates, facts, options.preferred_scale_dtype);
  if (options.scale_dtype)
    std::erase_if(candidates, [&](const Candidate& c) {
      const DType dtype = c.scheme.scale_dtype;
      return dtype != *options.scale_dtype && dtype != DType::F8_E4M3 && dtype != DType::F8_E8M0;
    });
  if (options.activations)
    for (Candidate& candidate : candidates) candidate.scheme.activations = options.activations;
  std::erase_if(candidates, [](const Candidate& c) { return std::isinf(c.scale_error); });
  split_groups(candidates, from.k);
  change_spelling(candidates, facts);
  std::ranges::stable_sort(candidates, {}, &Candidate::steps);
  // A way without padding before any with it, exact ones before those that round.
  for (const bool pad : {false, true}) {
    if (pad && !options.pad) break;
    for (const Candidate& candidate : candidates)
      for (const WeightFormat* row : rows)
        if (auto found = try_row(*row, from, candidate, facts, pad)) return *found;
  }
  return why_not(from, facts, rows);
}

bool needs_facts(int lowest_zero, const Scheme& from, std::span<const WeightFormat* const> rows) {
  if (std::ranges::any_of(rows, &WeightFormat::only_24)) return true;
  if (from.zero_points == ZeroPoints::floating) return true;
  if (stores_zeros(from))
    return std::ranges::any_of(rows, [&](const WeightFormat* row) {
      return row->lowest_zero != lowest_zero || row->refusal(from, K{1 << 14}, N{1 << 14}).has_value();
    });
  return std::ranges::all_of(
      rows, [&](const WeightFormat* row) { return row->refusal(from, K{1 << 14}, N{1 << 14}).has_value(); });
}

QuantizedMatrix recode(const QuantizedMatrix& q, const Geometry& from, const Geometry& to) {
  const bool last =
      q.first_column + q.n().value == from.n.value || q.first_column + q.n().value >= to.n.value;
  const std::int64_t columns = last ? to.n.value - q.first_column : q.n().value;
  const std::int64_t kept = std::min(q.n().value, columns), rows = std::min(q.k().value, to.k.value);
  QuantizedMatrix out = make_matrix(to.scheme, to.k, N{columns}, q.first_column);
  out.global_scale = from.scheme.global_scale == to.scheme.global_scale ? q.global_scale : 1 / q.global_scale;

  // Groups: repeated, merged where they agree, or one by one.
  const std::int64_t old_rows = from.scheme.rows_per_group(from.k), new_rows = to.scheme.rows_per_group(to.k);
  const std::int64_t used_groups =
      std::min<std::int64_t>(out.scales.rows(), (rows + new_rows - 1) / new_rows);
  const auto old_group = [&](std::int64_t group) {
    return to.scheme.act_order ? group : group * new_rows / old_rows;
  };
  const auto is_merged = old_rows < new_rows && !to.scheme.act_order;
  const auto fail = [](const std::string& what) { throw Error{ErrorKind::mismatch, what}; };
  // Of what padding adds; E8M0 has no zero, and nothing is divided by one.
  if (out.scales.size() > 0)
    out.scales.setConstant(to.scheme.scale_dtype == DType::F8_E8M0 || to.scheme.scales_divide ? 1 : 0);
  if (out.float_zeros.size() > 0) out.float_zeros.setZero();
  if (out.zero_points.size() > 0)
    out.zero_points.setConstant(static_cast<std::int16_t>(1 << (to.scheme.type.bits - 1)));
  const auto old_zero = [&](std::int64_t group, std::int64_t col) {
    return stores_zeros(from.scheme) ? static_cast<int>(q.zero_points(group, col)) : from.scheme.type.bias;
  };
  for (std::int64_t col = 0; col < kept; ++col)
    for (std::int64_t group = 0; group < used_groups; ++group) {
      const std::int64_t source = old_group(group);
      if (is_merged)
        for (std::int64_t other = source;
             other <
             std::min<std::int64_t>(q.scales.rows(), ((group + 1) * new_rows + old_rows - 1) / old_rows);
             ++other)
          if (q.scales(other, col) != q.scales(source, col) ||
              old_zero(other, col) != old_zero(source, col) ||
              (q.float_zeros.size() > 0 && q.float_zeros(other, col) != q.float_zeros(source, col)))
            fail(fmt::format("groups {} and {} of column {} differ and cannot be one", source, other,
                             q.first_column + col));
      out.scales(group, col) = rounded(q.scales(source, col), to.scheme.scale_dtype);
      if (stores_zeros(to.scheme))
        out.zero_points(group, col) = static_cast<std::int16_t>(old_zero(source, col));
      if (to.scheme.zero_points == ZeroPoints::floating)
        out.float_zeros(group, col) = rounded(q.float_zeros(source, col), to.scheme.scale_dtype);
    }

  // Codes: as they are where the zero stays, else moved with it.
  const auto new_zero = [&](std::int64_t group, std::int64_t col) -> int {
    if (!to.scheme.type.is_integer()) return 0;
    return stores_zeros(to.scheme) ? out.zero_points(group, col) : to.scheme.type.bias;
  };
  const auto move = [&](std::int64_t first, std::int64_t count, std::int64_t group, std::int64_t col) {
    const std::uint8_t* code = q.codes.data() + col * q.k().value + first;
    std::uint8_t* moved = out.codes.data() + col * to.k.value + first;
    const int shift = stores_zeros(to.scheme) || !to.scheme.type.is_integer()
                          ? 0
                          : to.scheme.type.bias - old_zero(group, col);
    if (shift == 0 && to.scheme.type.bits >= from.scheme.type.bits) {
      std::copy_n(code, count, moved);
      return;
    }
    for (std::int64_t i = 0; i < count; ++i) {
      const int value = code[i] + shift;
      if (value < 0 || value > to.scheme.type.max_code())
        fail(fmt::format("code {} with zero {} at (k, n) = ({}, {}) has no place in {}", code[i],
                         old_zero(group, col), first + i, q.first_column + col, name_of(to.scheme.type)));
      moved[i] = static_cast<std::uint8_t>(value);
    }
  };
  const std::int64_t last_group = out.scales.rows() - 1;
  for (std::int64_t col = 0; col < columns; ++col) {
    std::uint8_t* const out_codes = out.codes.data() + col * to.k.value;
    if (col < kept) {
      if (from.scheme.act_order) {
        for (std::int64_t k = 0; k < rows; ++k) move(k, 1, q.g_idx[static_cast<std::size_t>(k)], col);
      } else {
        for (std::int64_t k = 0; k < rows; k += old_rows)
          move(k, std::min(old_rows, rows - k), k / old_rows, col);
      }
    }
    for (std::int64_t k = col < kept ? rows : 0; k < to.k.value; ++k)
      out_codes[k] = static_cast<std::uint8_t>(
          new_zero(to.scheme.act_order ? last_group : k / new_rows, col));  // a weight of 0
  }
  if (to.scheme.act_order) {
    std::copy_n(q.g_idx.begin(), rows, out.g_idx.begin());
    std::fill(out.g_idx.begin() + rows, out.g_idx.end(), static_cast<std::int32_t>(last_group));
  }
  return out;
}

}  // namespace mpk
