#include "quantizer/act_order.hpp"

#include <algorithm>
#include <numeric>

namespace mpk {

std::vector<Eigen::Index> solve_order(const MatrixF& hessian, ActOrder act_order) {
  std::vector<Eigen::Index> order(static_cast<std::size_t>(hessian.rows()));
  std::iota(order.begin(), order.end(), Eigen::Index{0});
  if (act_order == ActOrder::fixed_groups)  // stable: inputs that matter alike stay in storage order
    std::stable_sort(order.begin(), order.end(),
                     [&](Eigen::Index a, Eigen::Index b) { return hessian(a, a) > hessian(b, b); });
  return order;
}

}  // namespace mpk
