#include "model/attention.hpp"

#include <algorithm>
#include <cmath>
#include <omp.h>
#include <vector>

#include "model/elementwise.hpp"

namespace mpk {
namespace {

// Queries of one block share their products. Smaller blocks waste less work on keys in the future, larger
// ones run nearer to the BLAS's peak.
constexpr std::int64_t kQueryBlock = 64;

/// The keys a query may see, [begin, end) in its window.
struct Keys {
  std::int64_t begin, end;
};
Keys visible_keys(const AttentionShape& shape, std::int64_t query) {
  const std::int64_t begin =
      shape.sliding_window ? std::max<std::int64_t>(0, query + 1 - *shape.sliding_window) : 0;
  return {begin, query + 1};
}

/// scores[0 .. n - 1] <- exp(score - largest); returns their sum.
float exponentials(float* scores, std::int64_t n) {
  const float top = largest(scores, n);
  for (std::int64_t i = 0; i < n; ++i) scores[i] = exponential(scores[i] - top);
  return sum_in_lanes<float>(n, [scores](std::int64_t i) { return scores[i]; });
}

/// One block of queries of one head in one window. `scores` has room for (length, kQueryBlock).
void attend_block(const AttentionShape& shape, std::int64_t first_query, ConstMatrixRef q, ConstMatrixRef k,
                  ConstMatrixRef v, MatrixF& scores, MatrixRef out) {
  const std::int64_t queries = q.cols();
  const Keys all{visible_keys(shape, first_query).begin, first_query + queries};
  const std::int64_t keys = all.end - all.begin;
  const float scale =
      shape.scale ? static_cast<float>(*shape.scale) : 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  gemm(Op::transpose, Op::none, scale, k.middleCols(all.begin, keys), q, 0.0f,
       scores.topLeftCorner(keys, queries));

  float inverse_sum[kQueryBlock];
  for (std::int64_t i = 0; i < queries; ++i) {
    const Keys seen = visible_keys(shape, first_query + i);
    float* column = scores.col(i).data();
    std::fill(column, column + (seen.begin - all.begin), 0.0f);
    if (shape.softcap)
      cap(column + (seen.begin - all.begin), seen.end - seen.begin, static_cast<float>(*shape.softcap));
    inverse_sum[i] = 1.0f / exponentials(column + (seen.begin - all.begin), seen.end - seen.begin);
    std::fill(column + (seen.end - all.begin), column + keys, 0.0f);
  }
  gemm(Op::none, Op::none, 1.0f, v.middleCols(all.begin, keys), scores.topLeftCorner(keys, queries), 0.0f,
       out);
  for (std::int64_t i = 0; i < queries; ++i) out.col(i) *= inverse_sum[i];
}

}  // namespace

void attend(const AttentionShape& shape, std::int64_t length, ConstMatrixRef q, ConstMatrixRef k,
            ConstMatrixRef v, MatrixRef out) {
  const std::int64_t blocks = (length + kQueryBlock - 1) / kQueryBlock;
  const std::int64_t tasks = q.cols() / length * shape.num_heads * blocks;
  const std::int64_t queries_per_kv_head = shape.num_heads / shape.num_kv_heads, dim = shape.head_dim,
                     value_dim = shape.value_dim.value_or(dim);
  // Before the parallel region, which an exception may not leave.
  std::vector<MatrixF> scores(static_cast<std::size_t>(omp_get_max_threads()), MatrixF(length, kQueryBlock));
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t task = 0; task < tasks; ++task) {
    const std::int64_t first_query = task % blocks * kQueryBlock;
    const std::int64_t head = task / blocks % shape.num_heads;
    const std::int64_t first_token = task / blocks / shape.num_heads * length;
    const std::int64_t queries = std::min(kQueryBlock, length - first_query);
    const std::int64_t kv_head = head / queries_per_kv_head;
    attend_block(shape, first_query, q.block(head * dim, first_token + first_query, dim, queries),
                 k.block(kv_head * dim, first_token, dim, length),
                 v.block(kv_head * value_dim, first_token, value_dim, length),
                 scores[static_cast<std::size_t>(omp_get_thread_num())],
                 out.block(head * value_dim, first_token + first_query, value_dim, queries));
  }
}

}  // namespace mpk
