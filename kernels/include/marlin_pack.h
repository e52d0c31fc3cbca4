/* marlin-pack's GPU kernels for other programs: plain C, no exceptions, no hidden allocation.
 *
 *   out (M, N) = activations (M, K) * weights (K, N) [+ bias]
 *
 * weights packed as FORMAT.md "marlin" says, or "marlin-a8" where activations have 8 bits: row m of the
 * product is then multiplied by row_scales[m], too. Ask once per layer and M for a plan, allocate the
 * workspace it names and clear the head of it once, then launch as often as wanted: every launch leaves the
 * head cleared.
 *
 * Thread safety: plans are values; a workspace serves one launch at a time. Link libmarlin_pack_kernels and
 * the CUDA runtime. */
#ifndef MARLIN_PACK_H
#define MARLIN_PACK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  MPK_OK = 0,
  MPK_BAD_ARGUMENT = 3, /* a size, a pointer or an enumerator that cannot be */
  MPK_UNSUPPORTED = 4,  /* no kernel of this build takes it; mpk_last_error() has the table */
  MPK_DEVICE = 6        /* CUDA failed, or there is no GPU */
} mpk_status;

typedef enum { MPK_F16 = 0, MPK_BF16 = 1 } mpk_float;

typedef enum {
  MPK_ACTIVATIONS_16 = 0, /* float of 16 bits */
  MPK_ACTIVATIONS_INT8 = 1,
  MPK_ACTIVATIONS_E4M3 = 2 /* compute capability 8.9 and newer */
} mpk_activations;

typedef enum {
  MPK_U4B8 = 0,          /* (code - 8) * scale */
  MPK_U4 = 1,            /* (code - zero point) * scale */
  MPK_U8B128 = 2,        /* (code - 128) * scale */
  MPK_E4M3 = 3,          /* float * scale, which contains 2^8 (f16) or 2^120 (bf16) */
  MPK_NVFP4 = 4,         /* e2m1 * scale * global scale, groups of 16 */
  MPK_MXFP4 = 5,         /* e2m1 * scale, groups of 32; activations bf16 or e4m3 */
  MPK_U4_FLOAT_ZEROS = 6 /* (code - zero point) * scale, zero points of 16 bits like the scales */
} mpk_weight;

typedef struct {
  mpk_weight weight;
  mpk_float activations; /* of activations (if they have 16 bits), outputs, 16-bit scales and bias */
  int64_t k, n;
  int32_t group_size; /* 16, 32, 64, 128; -1: one scale per column */
  int32_t act_order;  /* not 0: rows are stored sorted by group, and `perm` says where each came from */
  mpk_activations quantized; /* activations of 8 bits, or MPK_ACTIVATIONS_16 */
} mpk_layer;

/* A plan is opaque bytes, valid for the GPU it was made for. */
typedef struct {
  uint64_t opaque[32];
} mpk_plan;

/* Device memory, each 16-byte aligned; null where the layer has none. Scales and bias are permuted, zero
 * points packed, as FORMAT.md says. Launches overlap the end of the kernel in front of them in the stream:
 * words, scales, zero points and bias must not be outputs of that kernel, nor of an earlier one that lets its
 * follower begin before it has ended; activations may. */
typedef struct {
  const void* activations; /* (M, K) row-major */
  const float* row_scales; /* (M); activations of 8 bits only */
  const uint32_t* words;
  const void* scales;          /* (groups, N), 16 bits each, or 8 (nvfp4, mxfp4) */
  const uint32_t* zero_points; /* (groups, N / 8), u4; (groups, N / 2), u4 with float zeros */
  const int32_t* perm;         /* (K); act_order only */
  const void* bias;            /* (N), or null */
  float global_scale;          /* nvfp4 only */
  void* out;                   /* (M, N) row-major */
  void* workspace;             /* mpk_workspace_bytes() of it; may be null where that is 0 */
} mpk_buffers;

/* For the GPU that is current. */
mpk_status mpk_plan_gemm(const mpk_layer* layer, int64_t m, mpk_plan* plan);
/* Bytes of workspace, of which the first mpk_cleared_bytes() must be 0 before the first launch. */
size_t mpk_workspace_bytes(const mpk_plan* plan);
size_t mpk_cleared_bytes(const mpk_plan* plan);
/* `stream`: a cudaStream_t. Launches and returns; may be captured into a graph. */
mpk_status mpk_gemm(const mpk_plan* plan, const mpk_buffers* buffers, void* stream);

/* What the last call of this thread that did not return MPK_OK had to say. */
const char* mpk_last_error(void);

#ifdef __cplusplus
}
#endif
#endif
