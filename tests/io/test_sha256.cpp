#include "packer/io/sha256.hpp"
#include "tests/io/container.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;

TEST_CASE("SHA-256 of the standard's examples", "[io][sha256]") {  // FIPS 180-4
  CHECK(sha256(bytes_of("")) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256(bytes_of("abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string million(1'000'000, 'a');
  const std::string expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
  CHECK(sha256(bytes_of(million)) == expected);

  Sha256 hash;
  for (std::size_t at = 0, step = 1; at < million.size(); at += step, step = step * 3 % 1009)
    hash.update(bytes_of(million).subspan(at, std::min(step, million.size() - at)));
  CHECK(hash.hex() == expected);

  const ScratchDir dir;
  write_file(dir / "a", million);
  CHECK(sha256_of_file(dir / "a") == expected);
  require_error(ErrorKind::bad_input, {"missing"}, [&] { sha256_of_file(dir / "missing"); });
}
