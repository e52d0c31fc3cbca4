#include "kernels/hopper/variant.cuh"

namespace mpk {
namespace {

constexpr auto kVariants = rows_of_kinds8<HopperVariants8, Activation8::int8>();

}  // namespace

std::span<const HopperVariant> hopper_int8_variants() {
  return kVariants;
}

}  // namespace mpk
