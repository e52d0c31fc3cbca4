#include "kernels/wgmma/variant.cuh"

namespace mpk {
namespace {

constexpr auto kVariants = join(wgmma_variants8_of<Activation8::int8, Weight::u4b8, Float::f16>(),
                                wgmma_variants8_of<Activation8::int8, Weight::u4b8, Float::bf16>(),
                                wgmma_variants8_of<Activation8::int8, Weight::u4, Float::f16>(),
                                wgmma_variants8_of<Activation8::int8, Weight::u4, Float::bf16>(),
                                wgmma_variants8_of<Activation8::int8, Weight::u8b128, Float::f16>(),
                                wgmma_variants8_of<Activation8::int8, Weight::u8b128, Float::bf16>());

}  // namespace

std::span<const WgmmaVariant> wgmma_int8_variants() {
  return kVariants;
}

}  // namespace mpk
