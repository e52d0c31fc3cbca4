// Where each scale sits, against the position formulas; packer/ gathers.

#include <cstring>
#include <limits>
#include <vector>

#include "packer/scales.hpp"
#include "tests/packer/random_matrix.hpp"
#include "tests/packer/whole.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

std::int64_t position(ScaleOrder order, std::int64_t n) {
  switch (order) {
    case ScaleOrder::grouped:
      return 64 * (n / 64) + 8 * (n % 8) + n % 64 / 8;
    case ScaleOrder::single:
      return 32 * (n / 32) + 8 * (n % 8 / 2) + 2 * (n % 32 / 8) + n % 2;
    case ScaleOrder::quad: {
      const std::int64_t grouped = 64 * (n / 64) + 8 * (n % 8) + n % 64 / 8;
      const std::int64_t in_four[] = {0, 2, 1, 3};
      return grouped / 4 * 4 + in_four[grouped % 4];
    }
    case ScaleOrder::sparse:
      return 8 * (n / 8) + 2 * (n % 4) + n % 8 / 4;
    case ScaleOrder::plain:
      break;
  }
  return n;
}

float scale_at(const std::vector<std::byte>& bytes, DType dtype, std::int64_t index) {
  std::uint16_t bits;
  std::memcpy(&bits, bytes.data() + 2 * index, 2);
  return dtype == DType::F16 ? f16_to_float(bits) : bf16_to_float(bits);
}

std::vector<std::byte> stored(const MatrixF& scales, DType dtype, ScaleOrder order) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(scales.size()) * 2);
  whole_scales(scales, dtype, order, bytes);
  return bytes;
}

}  // namespace

TEST_CASE("each scale sits at its position and comes back", "[scales]") {
  const auto order = GENERATE(ScaleOrder::plain, ScaleOrder::grouped, ScaleOrder::single, ScaleOrder::quad,
                              ScaleOrder::sparse);
  const auto dtype = GENERATE(DType::F16, DType::BF16);
  const Groups groups{GENERATE(1, 2, 5)};
  const N n{GENERATE(64, 128, 320)};
  const MatrixF scales = random_scales(groups, n, dtype, seed());
  const auto bytes = stored(scales, dtype, order);
  std::int64_t misplaced = 0;
  for (std::int64_t group = 0; group < groups.value; ++group)
    for (std::int64_t col = 0; col < n.value; ++col)
      misplaced += scale_at(bytes, dtype, group * n.value + position(order, col)) != scales(group, col);
  CHECK(misplaced == 0);
  CHECK(from_scales(bytes, groups, n, dtype, order) == scales);
}

TEST_CASE("more than one group is grouped, one is single, also when the group is all of K", "[scales]") {
  CHECK(marlin_scale_order(Scheme{kU4B8, GroupSize{128}, DType::F16}.groups(K{256})) == ScaleOrder::grouped);
  CHECK(marlin_scale_order(Scheme{kU4B8, GroupSize{128}, DType::F16}.groups(K{128})) == ScaleOrder::single);
  CHECK(marlin_scale_order(Scheme{kU4B8, std::nullopt, DType::F16}.groups(K{256})) == ScaleOrder::single);
}

TEST_CASE("a scale that 16 bits cannot hold is refused", "[scales]") {
  MatrixF scales = random_scales(Groups{2}, N{64}, DType::F16, seed());
  const float bad =
      GENERATE(0.1f, 65536.0f, 0x1p-25f, std::numeric_limits<float>::infinity(),
               -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN());
  scales(1, 7) = bad;
  const auto store = [&] { stored(scales, DType::F16, ScaleOrder::grouped); };
  CHECK(mentions(error_of(ErrorKind::bad_input, store), "group 1, column 7"));
}

TEST_CASE("a stored scale that is not finite is refused", "[scales]") {
  std::vector<std::byte> bytes(2 * 64);
  const auto [dtype, bits] = GENERATE(table<DType, std::uint16_t>({{DType::F16, 0x7c00},
                                                                   {DType::F16, 0xfc00},
                                                                   {DType::F16, 0x7e01},
                                                                   {DType::BF16, 0x7f80},
                                                                   {DType::BF16, 0xffc0}}));
  const std::uint16_t value = bits;
  const DType type = dtype;
  std::memcpy(bytes.data() + 2 * position(ScaleOrder::single, 11), &value, 2);
  const auto load = [&] { from_scales(bytes, Groups{1}, N{64}, type, ScaleOrder::single); };
  CHECK(mentions(error_of(ErrorKind::bad_input, load), "column 11"));
}

TEST_CASE("rows, sizes and dtypes without an order are refused", "[scales]") {
  const MatrixF odd = MatrixF::Ones(2, 96);
  error_of(ErrorKind::unsupported, [&] { stored(odd, DType::F16, ScaleOrder::grouped); });
  CHECK_NOTHROW(stored(odd, DType::F16, ScaleOrder::single));
  error_of(ErrorKind::unsupported, [&] { stored(MatrixF::Ones(1, 48), DType::F16, ScaleOrder::single); });
  std::vector<std::byte> bytes(2 * 96);
  error_of(ErrorKind::bad_input,
           [&] { from_scales(bytes, Groups{2}, N{96}, DType::F16, ScaleOrder::plain); });
}
