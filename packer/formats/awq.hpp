#pragma once
// What the rows of AWQ share.

#include "packer/formats/formats.hpp"

namespace mpk::formats {

/// 4 bit in whole groups of runs; the row's own limits come on top.
std::optional<std::string> awq_refusal(const char* name, const Scheme&, K, N);

/// The "quantization_config". Modules can only be excepted altogether: throws Error{unsupported} for one with
/// another group_size, which no reader could learn.
nlohmann::json awq_config(const char* version, bool zero_point, const CheckpointSchemes&);

/// The three tensors of gemm and gemv by their shapes. Some small matrices satisfy both.
struct AwqShapes {
  bool gemm, gemv;
};
/// nullopt: other tensors. Throws Error{bad_input} if they are no matrices.
std::optional<AwqShapes> awq_shapes(const PartViews&);

/// u4b8 if all zero points are 8, else u4 with integer zero points; zero_at(i) is one of `count`.
template <class ZeroAt>
void set_awq_type(Scheme& scheme, std::int64_t count, ZeroAt zero_at) {
  bool symmetric = true;
  for (std::int64_t i = 0; i < count && symmetric; ++i) symmetric = zero_at(i) == kU4B8.bias;
  scheme.type = symmetric ? kU4B8 : kU4;
  scheme.zero_points = symmetric ? ZeroPoints::implied : ZeroPoints::integer;
}

/// Puts a zero point read from a file into its place. Throws Error{bad_input} if the scheme implies another.
void put_awq_zero(QuantizedMatrix& out, Eigen::Index group, Eigen::Index column, int zero);

/// The zero point to store. Throws Error{unsupported} unless it has four bits.
int awq_zero(const QuantizedMatrix& q, Eigen::Index group, Eigen::Index column);

}  // namespace mpk::formats
