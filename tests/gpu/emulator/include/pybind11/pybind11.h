// The part of pybind11 that csrc/bind_cuda.cpp uses: what it would define in a Python module goes
// into a table. So the bindings compile in a fraction of a second, and for executables as well.
#pragma once

#include <string>
#include <tuple>

#include "emulator/kernel_table.h"

namespace pybind11 {

class gil_scoped_release {
 public:
  gil_scoped_release() {}
};

class module_ {
 public:
  // What is told to Python users only.
  struct Ignored {
    template <class T>
    void operator=(const T&) const {}
  };
  Ignored doc() const { return {}; }
  Ignored attr(const char*) const { return {}; }

  template <class Function>
  module_& def(const char* name, Function function) {
    emulator::add_kernel(name, function);
    return *this;
  }
};

}  // namespace pybind11

#define PYBIND11_MODULE(name, m)                 \
  static void name##_bind(pybind11::module_& m); \
  static const bool name##_bound = [] {          \
    pybind11::module_ m;                         \
    name##_bind(m);                              \
    return true;                                 \
  }();                                           \
  static void name##_bind(pybind11::module_& m)
