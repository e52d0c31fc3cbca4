/* Compiled as C: what an engine would write. Returns 0, or the line that failed. */
#include <string.h>

#include "kernels/include/marlin_pack.h"

#define NEED(condition) \
  if (!(condition)) return __LINE__

/* Calls that must be refused, with or without a GPU. */
int mpk_test_refusals(void) {
  mpk_layer layer = {MPK_U4B8, MPK_F16, 4096, 4096, 128, 0, MPK_ACTIVATIONS_16};
  mpk_plan plan;
  NEED(mpk_plan_gemm(NULL, 1, &plan) == MPK_BAD_ARGUMENT);
  NEED(mpk_plan_gemm(&layer, 1, NULL) == MPK_BAD_ARGUMENT);
  layer.group_size = 0;
  NEED(mpk_plan_gemm(&layer, 1, &plan) == MPK_BAD_ARGUMENT);
  NEED(strstr(mpk_last_error(), "group_size") != NULL);
  layer.group_size = 128;
  layer.weight = (mpk_weight)17;
  NEED(mpk_plan_gemm(&layer, 1, &plan) == MPK_BAD_ARGUMENT);
  layer.weight = MPK_U4B8;
  layer.quantized = (mpk_activations)3;
  NEED(mpk_plan_gemm(&layer, 1, &plan) == MPK_BAD_ARGUMENT);
  NEED(strstr(mpk_last_error(), "quantized") != NULL);
  NEED(mpk_gemm(NULL, NULL, NULL) == MPK_BAD_ARGUMENT);
  NEED(mpk_workspace_bytes(NULL) == 0 && mpk_cleared_bytes(NULL) == 0);
  return 0;
}

/* One product; buffers but for the workspace are the caller's, as is its memory. */
mpk_status mpk_test_multiply(const mpk_layer* layer, int64_t m, const mpk_buffers* buffers, size_t room) {
  mpk_plan plan;
  mpk_status status = mpk_plan_gemm(layer, m, &plan);
  if (status != MPK_OK) return status;
  if (mpk_workspace_bytes(&plan) > room || mpk_cleared_bytes(&plan) > mpk_workspace_bytes(&plan))
    return MPK_BAD_ARGUMENT;
  return mpk_gemm(&plan, buffers, NULL);
}
