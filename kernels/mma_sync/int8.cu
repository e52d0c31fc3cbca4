#include "kernels/mma_sync/variant.cuh"

namespace mpk {
namespace {

constexpr auto kVariants = join(variants8_of<Activation8::int8, Weight::u4b8, Float::f16>(),
                                variants8_of<Activation8::int8, Weight::u4b8, Float::bf16>(),
                                variants8_of<Activation8::int8, Weight::u4, Float::f16>(),
                                variants8_of<Activation8::int8, Weight::u4, Float::bf16>(),
                                variants8_of<Activation8::int8, Weight::u8b128, Float::f16>(),
                                variants8_of<Activation8::int8, Weight::u8b128, Float::bf16>());

}  // namespace

std::span<const MmaSyncVariant> int8_variants() {
  return kVariants;
}

}  // namespace mpk
