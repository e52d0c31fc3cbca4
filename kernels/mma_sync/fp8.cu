// Compiled for compute capability 8.9, unlike the other mma.sync kernels.
#include "kernels/mma_sync/variant.cuh"

namespace mpk {
namespace {

constexpr auto kVariants = join(variants8_of<Activation8::e4m3, Weight::u4b8, Float::f16>(),
                                variants8_of<Activation8::e4m3, Weight::u4b8, Float::bf16>(),
                                variants8_of<Activation8::e4m3, Weight::u4, Float::f16>(),
                                variants8_of<Activation8::e4m3, Weight::u4, Float::bf16>(),
                                variants8_of<Activation8::e4m3, Weight::mxfp4, Float::f16>(),
                                variants8_of<Activation8::e4m3, Weight::mxfp4, Float::bf16>());

}  // namespace

std::span<const MmaSyncVariant> fp8_variants() {
  return kVariants;
}

}  // namespace mpk
