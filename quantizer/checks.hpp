#pragma once
// What a quantizer refuses, said once, with the numbers the user needs.

#include "quantizer/methods.hpp"

namespace mpk {

/// Throws Error{unsupported} unless `scheme` can describe a layer of K inputs.
void check_scheme(const Scheme& scheme, K k);

/// check_scheme, and: weights finite, Hessian (if there is one) finite and (K, K).
void check_layer(const LinearLayer& layer, const Scheme& scheme);

}  // namespace mpk
