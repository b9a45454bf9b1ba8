// The kernels of an emulated module by name, called with words of 64 bits for arguments.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace emulator {

struct KernelEntry {
  std::string name;
  // A letter an argument, as Python's struct module has them.
  std::string signature;
  std::function<void(const uint64_t*)> call;
};

std::vector<KernelEntry>& kernel_table();

template <class T>
constexpr char letter_of() {
  static_assert(std::is_arithmetic_v<T>, "kernels take addresses and numbers");
  if (std::is_same_v<T, bool>) return '?';
  if (std::is_floating_point_v<T>) return sizeof(T) == 4 ? 'f' : 'd';
  constexpr const char* letters = std::is_signed_v<T> ? "bhiq" : "BHIQ";
  return letters[sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3];
}

template <class T>
T argument(uint64_t word) {
  T value;
  std::memcpy(&value, &word, sizeof(T));
  return value;
}

template <class Function, class... Args, size_t... Index>
void add_entry(const char* name, Function function, void (Function::*)(Args...) const,
               std::index_sequence<Index...>) {
  kernel_table().push_back({name, std::string{letter_of<Args>()...}, [=](const uint64_t* words) {
                              function(argument<Args>(words[Index])...);
                            }});
}

template <class Function, class... Args>
void add_entry(const char* name, Function function, void (Function::*call)(Args...) const) {
  add_entry(name, function, call, std::index_sequence_for<Args...>());
}

// `function` is a lambda that takes addresses (as integers) and numbers.
template <class Function>
void add_kernel(const char* name, Function function) {
  add_entry(name, function, &Function::operator());
}

}  // namespace emulator
