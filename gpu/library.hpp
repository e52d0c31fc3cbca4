#pragma once
// A shared library that is looked for at run time, so that the program starts without it.

#include <initializer_list>
#include <string>

namespace mpk {

class SharedLibrary {
 public:
  /// Takes the first name that the dynamic linker finds. Throws Error{device} that says what was looked for
  /// and what each attempt answered.
  explicit SharedLibrary(std::initializer_list<const char*> names);
  const std::string& name() const { return name_; }

  /// Sets `function` to the library's function of this name. Throws Error{device} if it has none.
  template <class Function>
  void find(Function& function, const char* symbol) const {
    function = reinterpret_cast<Function>(address(symbol));
  }

 private:
  void* address(const char* symbol) const;
  void* handle_ = nullptr;  // stays open: other libraries may hold on to it
  std::string name_;
};

/// cuBLAS and cuSOLVER both call success 0. Throws Error{device} that names the call for anything else.
void check_status(int status, const char* call);

}  // namespace mpk
