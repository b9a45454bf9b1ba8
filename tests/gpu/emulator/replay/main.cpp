// Runs recorded launches again, in a program linked with a sanitizer: replay SEED FILE. The format
// of the file is that of replay.py.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "../runtime/fault.h"
#include "../runtime/launch.h"
#include "emulator/kernel_table.h"

// Only there in a program that was linked with AddressSanitizer.
extern "C" [[gnu::weak]] void __asan_poison_memory_region(const volatile void*, size_t);

namespace {

constexpr uintptr_t ALIGNMENT = 16;

[[noreturn]] void stop(const std::string& message) {
  std::fprintf(stderr, "replay: %s\n", message.c_str());
  std::exit(1);
}

class Reader {
 public:
  explicit Reader(const char* path) : file_(std::fopen(path, "rb")) {
    if (!file_) stop(std::string("cannot open ") + path);
  }
  ~Reader() { std::fclose(file_); }

  bool at_end() {
    const int next = std::fgetc(file_);
    std::ungetc(next, file_);
    return next == EOF;
  }
  void bytes(void* target, size_t count) {
    if (std::fread(target, 1, count, file_) != count) stop("the file ends early");
  }
  uint64_t word() {
    uint64_t value;
    bytes(&value, sizeof(value));
    return value;
  }
  std::string text() {
    std::string value(word(), ' ');
    bytes(value.data(), value.size());
    return value;
  }

 private:
  std::FILE* file_;
};

// A buffer in an allocation of its own, aligned as it was and no longer than it was.
class Buffer {
 public:
  explicit Buffer(Reader& reader) : recorded_(reader.word()), bytes_(reader.word()) {
    const size_t before = recorded_ % ALIGNMENT;
    memory_ = static_cast<char*>(std::malloc(before + bytes_));
    reader.bytes(memory_ + before, bytes_);
    here_ = reinterpret_cast<uint64_t>(memory_) + before;
    if (__asan_poison_memory_region) __asan_poison_memory_region(memory_, before);
  }
  ~Buffer() { std::free(memory_); }
  Buffer(Buffer&& other) noexcept
      : recorded_(other.recorded_), bytes_(other.bytes_), here_(other.here_) {
    std::swap(memory_, other.memory_);
  }

  bool holds(uint64_t address) const { return address - recorded_ < bytes_; }
  uint64_t moved(uint64_t address) const { return address - recorded_ + here_; }

 private:
  uint64_t recorded_, bytes_, here_;
  char* memory_ = nullptr;
};

const emulator::KernelEntry& find(const std::string& name) {
  for (const emulator::KernelEntry& entry : emulator::kernel_table()) {
    if (entry.name == name) return entry;
  }
  stop("no kernel " + name);
}

void replay(Reader& reader) {
  const emulator::KernelEntry& kernel = find(reader.text());
  std::vector<uint64_t> words(kernel.signature.size());
  for (uint64_t& word : words) word = reader.word();
  std::vector<Buffer> buffers;
  for (uint64_t count = reader.word(); count > 0; --count) buffers.emplace_back(reader);
  for (size_t i = 0; i < words.size(); ++i) {
    // Addresses are the only arguments that are unsigned and of 64 bits.
    if (kernel.signature[i] != 'Q') continue;
    for (const Buffer& buffer : buffers) {
      if (buffer.holds(words[i])) {
        words[i] = buffer.moved(words[i]);
        break;
      }
    }
  }
  kernel.call(words.data());
  if (!emulator::last_fault().kind.empty()) {
    stop(kernel.name + ": " + emulator::last_fault().message);
  }
}

}  // namespace

int main(int, char** arguments) {
  emulator::launch_seed = static_cast<unsigned>(std::atoi(arguments[1]));
  Reader reader(arguments[2]);
  while (!reader.at_end()) replay(reader);
}
