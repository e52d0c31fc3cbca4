#pragma once
// The steps of the solvers as GPU launches; solver.cpp puts them in order. All matrices are column-major in
// GPU memory. "(N, K)" is a weight with its outputs as rows, so that the threads of a warp, one output each,
// read neighbours.
//
// Solve order runs backwards here: cuSOLVER factors A = L L^T from the first row, gptq.cpp wants the factor
// that begins at the last. So column c of a matrix in solve order is the input that is solved at position
// K - 1 - c, and R_jk of gptq.cpp is L(K-1-j, K-1-k).

#include <cstdint>

#include "gpu/blas.hpp"

namespace mpk::gpu_steps {

inline constexpr int kBlock = 128;  ///< inputs between two GEMMs

/// Levels of the codes and how scales are stored.
struct CodeSpace {
  float max_code;
  float bias;               ///< what is subtracted from codes without stored zero points
  bool stored_zeros;        ///< integer zero points, 1 .. max_code
  bool f16_scales;          ///< else bfloat16
  float smallest, largest;  ///< scale that can be stored
};

/// Scales and zero points, (N, groups) each, and the group of each input.
struct GroupRanges {
  float* scales;
  float* zeros;  ///< in code space; nullptr without stored zero points
  std::int64_t rows_per_group;
};

// ---- layout
/// h(i, j) for i < j from h(j, i): accumulation fills the lower triangle only.
void mirror_lower(std::int64_t k, float* h, const Stream& stream);
/// out[i] = h(i, i)
void diagonal(std::int64_t k, const float* h, float* out, const Stream& stream);
/// a(i, j) = h(order[i], order[j]) for i >= j, with `added` on the diagonal, where zeros become `for_dead`
/// first.
void gather_lower(std::int64_t k, const float* h, const std::int32_t* order, float for_dead, float added,
                  float* a, const Stream& stream);
/// out (N, K) <- weight (N, K) row-major of `type`
void load_weight(std::int64_t n, std::int64_t k, const void* weight, GpuFloat type, float* out,
                 const Stream& stream);
/// weights(:, i) = 0 where diagonal[i] = 0
void clear_dead(std::int64_t n, std::int64_t k, const float* diagonal, float* weights, const Stream& stream);
/// out(:, c) = in(:, order[c])
void gather_columns(std::int64_t n, std::int64_t k, const float* in, const std::int32_t* order, float* out,
                    const Stream& stream);
/// out(:, order[c]) = scale * in(:, c); codes likewise, where given.
void scatter_columns(std::int64_t n, std::int64_t k, const float* in, const std::int32_t* order, float scale,
                     float* out, const std::uint8_t* codes_in, std::uint8_t* codes_out, const Stream& stream);
/// out(:, order[c]) += scale * in(:, c)
void add_scattered(std::int64_t n, std::int64_t k, const float* in, const std::int32_t* order, float scale,
                   float* out, const Stream& stream);
/// out (K, N) <- in (N, K)
void transpose_codes(std::int64_t n, std::int64_t k, const std::uint8_t* in, std::uint8_t* out,
                     const Stream& stream);
/// weight (N, K) row-major <- the decoded codes (K, N), rounded to `type`. partial[2 n], partial[2 n + 1] get
/// the squared norms of what changed and of what was there, per output.
void decode_over(std::int64_t n, std::int64_t k, const std::uint8_t* codes, const CodeSpace& space,
                 const GroupRanges& ranges, void* weight, GpuFloat type, double* partial,
                 const Stream& stream);
/// partial[i], i < kDotParts, add up to sum a .* b
inline constexpr int kDotParts = 1024;
void dot(std::int64_t size, const float* a, const float* b, double* partial, const Stream& stream);
/// partial[2 i] add up to |a - b|^2, partial[2 i + 1] to |b|^2.
void distance(std::int64_t size, const float* a, const float* b, double* partial, const Stream& stream);

// ---- ranges
/// ranges(:, first_group ..) of weight (N, groups * rows_per_group), each group on its own (ranges.hpp).
/// `factors`: the candidates, in GPU memory. `importance` (K) or nullptr. *too_large becomes the largest
/// scale asked for that cannot be stored, as float bits; 0 before.
void find_ranges(std::int64_t n, std::int64_t groups, std::int64_t first_group, const float* weight,
                 const float* importance, const float* factors, int num_factors, const CodeSpace& space,
                 const GroupRanges& ranges, std::uint32_t* too_large, const Stream& stream);

// ---- gptq
struct SolveState {
  std::int64_t n, k;
  float* weights;             ///< (N, K) in solve order: w, and d where solved
  const float* pull;          ///< (N, K) sum over solved j outside the block of d_j R_jk
  const float* factor;        ///< (K, K) L
  float added;                ///< damping in the Hessian's units
  const std::int32_t* order;  ///< (K) column -> input
  GroupRanges ranges;
  CodeSpace space;
  std::uint8_t* codes;  ///< (N, K) in solve order
  double* loss;         ///< (N), added to
};
/// Solves columns [begin, end) of all outputs, end - begin <= kBlock.
void solve_block(const SolveState& state, std::int64_t begin, std::int64_t end, const Stream& stream);
/// corrected (N, end - begin), in storage order (falling columns): the weights that would undo the errors so
/// far.
void corrected_block(const SolveState& state, std::int64_t begin, std::int64_t end, float* corrected,
                     const Stream& stream);

// ---- descent
struct DescentState {
  std::int64_t n, k;
  const float* hessian;   ///< (K, K), whole
  float damping;          ///< in its units
  const float* gradient;  ///< (N, K): error * hessian, up to date
  float* error;           ///< (N, K): decoded - target
  GroupRanges ranges;
  CodeSpace space;
  std::uint8_t* codes;  ///< (N, K)
};
/// One visit to inputs [begin, end), end - begin <= kBlock: scales of whole groups, then codes. change (N,
/// end - begin) gets what the errors changed by.
void descend_block(const DescentState& state, std::int64_t begin, std::int64_t end, bool refit_scales,
                   float* change, const Stream& stream);
/// levels (N, K) <- codes - zero
void load_levels(std::int64_t n, std::int64_t k, const std::uint8_t* codes, const CodeSpace& space,
                 const GroupRanges& ranges, float* levels, const Stream& stream);
/// The scales of a matrix with one group, given image = levels * damped hessian; error is brought up to date.
void refit_columns(const DescentState& state, const float* levels, const float* image, const Stream& stream);

}  // namespace mpk::gpu_steps
