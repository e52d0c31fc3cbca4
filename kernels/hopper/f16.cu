#include "kernels/hopper/variant.cuh"

namespace mpk {
namespace {

constexpr auto kVariants = HopperVariants16<Float::f16>::of_all();

}  // namespace

std::span<const HopperVariant> hopper_f16_variants() {
  return kVariants;
}

}  // namespace mpk
