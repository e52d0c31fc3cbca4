#include "kernels/hopper/variant.cuh"

namespace mpk {
namespace {

constexpr auto kVariants = join(hopper_variants8_of<Activation8::int8, Weight::u4b8, Float::f16>(),
                                hopper_variants8_of<Activation8::int8, Weight::u4b8, Float::bf16>(),
                                hopper_variants8_of<Activation8::int8, Weight::u4, Float::f16>(),
                                hopper_variants8_of<Activation8::int8, Weight::u4, Float::bf16>(),
                                hopper_variants8_of<Activation8::int8, Weight::u8b128, Float::f16>(),
                                hopper_variants8_of<Activation8::int8, Weight::u8b128, Float::bf16>());

}  // namespace

std::span<const HopperVariant> hopper_int8_variants() {
  return kVariants;
}

}  // namespace mpk
