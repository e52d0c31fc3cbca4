// The C face of gemm.hpp: no exception leaves it.

#include <cstring>
#include <exception>
#include <optional>
#include <string>
#include <type_traits>

#include "kernels/gemm.hpp"
#include "kernels/include/marlin_pack.h"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

thread_local std::string last_error;

// The enumerators are the same numbers on both sides.
static_assert(static_cast<int>(Weight::u4b8) == MPK_U4B8 && static_cast<int>(Weight::u4) == MPK_U4 &&
              static_cast<int>(Weight::u8b128) == MPK_U8B128 && static_cast<int>(Weight::e4m3) == MPK_E4M3 &&
              static_cast<int>(Weight::nvfp4) == MPK_NVFP4 && static_cast<int>(Weight::mxfp4) == MPK_MXFP4 &&
              static_cast<int>(Weight::u4_float_zeros) == MPK_U4_FLOAT_ZEROS);
static_assert(static_cast<int>(Float::f16) == MPK_F16 && static_cast<int>(Float::bf16) == MPK_BF16);
constexpr std::optional<Activation8> quantized(mpk_activations a) {
  if (a == MPK_ACTIVATIONS_16) return std::nullopt;
  return a == MPK_ACTIVATIONS_INT8 ? Activation8::int8 : Activation8::e4m3;
}
static_assert(static_cast<int>(ErrorKind::bad_input) == MPK_BAD_ARGUMENT &&
              static_cast<int>(ErrorKind::unsupported) == MPK_UNSUPPORTED &&
              static_cast<int>(ErrorKind::device) == MPK_DEVICE);

template <class Work>
mpk_status guarded(Work&& work) {
  try {
    work();
    return MPK_OK;
  } catch (const Error& error) {
    last_error = error.what();
    switch (error.kind()) {
      case ErrorKind::unsupported:
        return MPK_UNSUPPORTED;
      case ErrorKind::device:
        return MPK_DEVICE;
      default:
        return MPK_BAD_ARGUMENT;
    }
  } catch (const std::exception& error) {
    last_error = error.what();
    return MPK_DEVICE;
  }
}

void require(bool condition, const char* what) {
  if (!condition) throw Error{ErrorKind::bad_input, what};
}

static_assert(std::is_trivially_copyable_v<GemmPlan> && sizeof(GemmPlan) <= sizeof(mpk_plan));
GemmPlan unwrap(const mpk_plan& plan) {
  GemmPlan out{};
  std::memcpy(static_cast<void*>(&out), &plan, sizeof out);
  return out;
}

LayerShape shape_of(const mpk_layer& layer) {
  require(layer.weight >= MPK_U4B8 && layer.weight <= MPK_U4_FLOAT_ZEROS,
          "mpk_layer.weight is no enumerator");
  require(layer.activations == MPK_F16 || layer.activations == MPK_BF16,
          "mpk_layer.activations is no enumerator");
  require(layer.quantized >= MPK_ACTIVATIONS_16 && layer.quantized <= MPK_ACTIVATIONS_E4M3,
          "mpk_layer.quantized is no enumerator");
  require(layer.group_size == -1 || layer.group_size > 0, "mpk_layer.group_size is neither -1 nor positive");
  return {static_cast<Weight>(layer.weight),
          layer.group_size < 0 ? std::nullopt : std::optional{GroupSize{layer.group_size}},
          K{layer.k},
          N{layer.n},
          static_cast<Float>(layer.activations),
          layer.act_order != 0,
          quantized(layer.quantized)};
}

void require_pointer(const void* pointer, bool needed, const char* name) {
  require(pointer != nullptr || !needed, name);
  require(reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0, name);
}

}  // namespace
}  // namespace mpk

using namespace mpk;

extern "C" {

mpk_status mpk_plan_gemm(const mpk_layer* layer, int64_t m, mpk_plan* plan) {
  return guarded([&] {
    require(layer != nullptr && plan != nullptr, "mpk_plan_gemm: null");
    const LayerShape shape = shape_of(*layer);  // what is wrong with it comes before what is with the GPU
    const GemmPlan made = plan_gemm(shape, M{m}, current_gpu_traits());
    *plan = {};
    std::memcpy(plan, &made, sizeof made);
  });
}
size_t mpk_workspace_bytes(const mpk_plan* plan) {
  return plan ? unwrap(*plan).workspace_bytes : 0;
}
size_t mpk_cleared_bytes(const mpk_plan* plan) {
  return plan ? unwrap(*plan).counter_bytes : 0;
}
mpk_status mpk_gemm(const mpk_plan* plan, const mpk_buffers* buffers, void* stream) {
  return guarded([&] {
    require(plan != nullptr && buffers != nullptr, "mpk_gemm: null");
    const GemmPlan made = unwrap(*plan);
    require_pointer(buffers->activations, true, "mpk_buffers.activations: null or not 16-byte aligned");
    require_pointer(buffers->row_scales, made.layer.activations8.has_value(),
                    "mpk_buffers.row_scales: null or not 16-byte aligned");
    require_pointer(buffers->words, true, "mpk_buffers.words: null or not 16-byte aligned");
    require_pointer(buffers->scales, true, "mpk_buffers.scales: null or not 16-byte aligned");
    require_pointer(buffers->zero_points, zero_bits(made.layer.weight) > 0,
                    "mpk_buffers.zero_points: null or not 16-byte aligned");
    require_pointer(buffers->perm, made.layer.act_order, "mpk_buffers.perm: null or not 16-byte aligned");
    require_pointer(buffers->bias, false, "mpk_buffers.bias: not 16-byte aligned");
    require_pointer(buffers->out, true, "mpk_buffers.out: null or not 16-byte aligned");
    require_pointer(buffers->workspace, made.workspace_bytes > 0,
                    "mpk_buffers.workspace: null or not 16-byte aligned");
    gemm(made,
         {.activations = buffers->activations,
          .row_scales = buffers->row_scales,
          .words = buffers->words,
          .scales = buffers->scales,
          .zero_points = buffers->zero_points,
          .perm = buffers->perm,
          .bias = static_cast<const std::uint16_t*>(buffers->bias),
          .global_scale = buffers->global_scale,
          .out = static_cast<std::uint16_t*>(buffers->out),
          .workspace = buffers->workspace},
         static_cast<GpuStream>(stream));
  });
}
const char* mpk_last_error(void) {
  return last_error.c_str();
}

}  // extern "C"
