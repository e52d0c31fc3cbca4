#pragma once
// Typed access to the parts of a tokenizer.json: what is missing or mistyped becomes Error{bad_input} that
// names it.

#include <cstdint>
#include <functional>
#include <string>

#include <nlohmann/json.hpp>

namespace mpk::tok {

using Json = nlohmann::json;

/// The member, or null where the object has none. Throws if `object` is no object.
const Json& optional_member(const Json& object, const char* name);
/// The member; throws if there is none.
const Json& member(const Json& object, const char* name);

const std::string& string_member(const Json& object, const char* name);
bool bool_member(const Json& object, const char* name);
bool bool_member(const Json& object, const char* name, bool fallback);  ///< `fallback`: absent or null
/// A list; throws if the member is something else.
const Json& list_member(const Json& object, const char* name);

/// A token id: an integer in [0, 2^31 - 1]. `whose` is asked for a name when it is not; there are millions of
/// ids.
std::int32_t token_id(const Json& value, const std::function<std::string()>& whose);

[[noreturn]] void bad(const std::string& what);          ///< throws Error{bad_input}
[[noreturn]] void unsupported(const std::string& what);  ///< throws Error{unsupported}

}  // namespace mpk::tok
