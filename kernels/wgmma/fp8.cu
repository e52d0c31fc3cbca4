#include "kernels/wgmma/variant.cuh"

namespace mpk {
namespace {

constexpr auto kVariants = join(wgmma_variants8_of<Activation8::e4m3, Weight::u4b8, Float::f16>(),
                                wgmma_variants8_of<Activation8::e4m3, Weight::u4b8, Float::bf16>(),
                                wgmma_variants8_of<Activation8::e4m3, Weight::u4, Float::f16>(),
                                wgmma_variants8_of<Activation8::e4m3, Weight::u4, Float::bf16>(),
                                wgmma_variants8_of<Activation8::e4m3, Weight::mxfp4, Float::f16>(),
                                wgmma_variants8_of<Activation8::e4m3, Weight::mxfp4, Float::bf16>());

}  // namespace

std::span<const WgmmaVariant> wgmma_fp8_variants() {
  return kVariants;
}

}  // namespace mpk
