#include "kernels/hopper/variant.cuh"

namespace mpk {
namespace {

constexpr auto kVariants = join(hopper_variants8_of<Activation8::e4m3, Weight::u4b8, Float::f16>(),
                                hopper_variants8_of<Activation8::e4m3, Weight::u4b8, Float::bf16>(),
                                hopper_variants8_of<Activation8::e4m3, Weight::u4, Float::f16>(),
                                hopper_variants8_of<Activation8::e4m3, Weight::u4, Float::bf16>(),
                                hopper_variants8_of<Activation8::e4m3, Weight::mxfp4, Float::f16>(),
                                hopper_variants8_of<Activation8::e4m3, Weight::mxfp4, Float::bf16>());

}  // namespace

std::span<const HopperVariant> hopper_fp8_variants() {
  return kVariants;
}

}  // namespace mpk
