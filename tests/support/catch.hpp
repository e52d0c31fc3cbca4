#pragma once
// One spelling for Catch2 2.13 and 3.x.

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#define MPK_SKIP(reason) SKIP(reason)
namespace mpk::test {
inline unsigned seed() {
  return Catch::getSeed();
}
}  // namespace mpk::test
#else
#include <catch2/catch.hpp>
#define MPK_SKIP(reason)         \
  do {                           \
    WARN("skipped: " << reason); \
    return;                      \
  } while (false)
namespace mpk::test {
inline unsigned seed() {
  return Catch::rngSeed();
}
}  // namespace mpk::test
#endif
