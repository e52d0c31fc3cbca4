// Compiled for compute capability 8.9, unlike the other mma.sync kernels.
#include "kernels/mma_sync/variant.cuh"

namespace mpk {
namespace {

constexpr auto kVariants = rows_of_kinds8<MmaSyncVariants8, Activation8::e4m3>();

}  // namespace

std::span<const MmaSyncVariant> fp8_variants() {
  return kVariants;
}

}  // namespace mpk
