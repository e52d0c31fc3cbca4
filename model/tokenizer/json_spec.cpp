#include "model/tokenizer/json_spec.hpp"

#include <limits>

#include <fmt/format.h>

#include "packer/format/error.hpp"

namespace mpk::tok {

void bad(const std::string& what) {
  throw Error{ErrorKind::bad_input, what};
}
void unsupported(const std::string& what) {
  throw Error{ErrorKind::unsupported, what};
}

const Json& optional_member(const Json& object, const char* name) {
  static const Json kAbsent;
  if (!object.is_object())
    bad(fmt::format("expected an object with a member \"{}\", found {}", name, object.type_name()));
  const auto found = object.find(name);
  return found == object.end() ? kAbsent : *found;
}

const Json& member(const Json& object, const char* name) {
  const Json& value = optional_member(object, name);
  if (value.is_null()) bad(fmt::format("\"{}\" is missing", name));
  return value;
}

const std::string& string_member(const Json& object, const char* name) {
  const Json& value = member(object, name);
  if (!value.is_string()) bad(fmt::format("\"{}\" is {}, not a string", name, value.type_name()));
  return value.get_ref<const std::string&>();
}

bool bool_member(const Json& object, const char* name) {
  const Json& value = member(object, name);
  if (!value.is_boolean()) bad(fmt::format("\"{}\" is {}, not true or false", name, value.type_name()));
  return value.get<bool>();
}

bool bool_member(const Json& object, const char* name, bool fallback) {
  return optional_member(object, name).is_null() ? fallback : bool_member(object, name);
}

const Json& list_member(const Json& object, const char* name) {
  const Json& value = member(object, name);
  if (!value.is_array()) bad(fmt::format("\"{}\" is {}, not a list", name, value.type_name()));
  return value;
}

std::int32_t token_id(const Json& value, const std::function<std::string()>& whose) {
  constexpr auto kLargest = std::numeric_limits<std::int32_t>::max();
  if (!value.is_number_integer())
    bad(fmt::format("the id of {} is {}, not an integer", whose(),
                    value.is_number() ? value.dump() : value.type_name()));
  const bool fits = value.is_number_unsigned() ? value.get<std::uint64_t>() <= std::uint64_t{kLargest}
                                               : value.get<std::int64_t>() >= 0;
  if (!fits) bad(fmt::format("the id of {} is {}; ids are 0 to {}", whose(), value.dump(), kLargest));
  return value.get<std::int32_t>();
}

}  // namespace mpk::tok
