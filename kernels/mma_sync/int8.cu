#include "kernels/mma_sync/variant.cuh"

namespace mpk {
namespace {

constexpr auto kVariants = rows_of_kinds8<MmaSyncVariants8, Activation8::int8>();

}  // namespace

std::span<const MmaSyncVariant> int8_variants() {
  return kVariants;
}

}  // namespace mpk
