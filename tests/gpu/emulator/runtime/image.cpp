#include "image.h"

#include <link.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "memory.h"

namespace hessx {

extern thread_local unsigned char shared_memory[];

}  // namespace hessx

// Addresses of the areas of no-operations that __launch_bounds__ puts before kernels.
extern "C" {
[[gnu::weak,
  gnu::visibility("hidden")]] extern const uint8_t* const __start___patchable_function_entries[];
[[gnu::weak,
  gnu::visibility("hidden")]] extern const uint8_t* const __stop___patchable_function_entries[];
}

namespace emulator {

namespace {

struct Image {
  uintptr_t base = 0;
  size_t thread_local_bytes = 0;
  std::vector<std::pair<uintptr_t, uintptr_t>> constants;
};

int find_image(dl_phdr_info* info, size_t, void* result) {
  const auto here = reinterpret_cast<uintptr_t>(&find_image);
  Image image;
  image.base = info->dlpi_addr;
  bool found = false;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr) & segment = info->dlpi_phdr[i];
    const uintptr_t first = info->dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_TLS) image.thread_local_bytes = segment.p_memsz;
    if (segment.p_type != PT_LOAD) continue;
    found = found || here - first < segment.p_memsz;
    if (!(segment.p_flags & PF_W)) image.constants.emplace_back(first, first + segment.p_memsz);
  }
  if (found) *static_cast<Image*>(result) = image;
  return found;
}

const Image& image() {
  static const Image found = [] {
    Image result;
    dl_iterate_phdr(find_image, &result);
    return result;
  }();
  return found;
}

int find_variables(dl_phdr_info* info, size_t, void* result) {
  if (info->dlpi_addr != image().base) return 0;
  *static_cast<uintptr_t*>(result) = reinterpret_cast<uintptr_t>(info->dlpi_tls_data);
  return 1;
}

}  // namespace

std::pair<uintptr_t, uintptr_t> thread_local_variables() {
  // The block of a thread comes into being when one of its variables is used.
  const volatile unsigned char touched = hessx::shared_memory[0];
  static_cast<void>(touched);
  uintptr_t first = 0;
  dl_iterate_phdr(find_variables, &first);
  return {first, first + image().thread_local_bytes};
}

bool is_constant(uintptr_t address) {
  const auto& ranges = image().constants;
  return std::any_of(ranges.begin(), ranges.end(), [=](const auto& range) {
    return address - range.first < range.second - range.first;
  });
}

uint32_t offset_in_image(uintptr_t code) { return static_cast<uint32_t>(code - image().base); }

uintptr_t address_in_image(uint32_t offset) { return image().base + offset; }

unsigned launch_bound(const void* kernel) {
  constexpr uint8_t NO_OPERATION = 0x90;
  const auto* const entry = static_cast<const uint8_t*>(kernel);
  if (!__start___patchable_function_entries) return 0;
  for (const uint8_t* const* area = __start___patchable_function_entries;
       area != __stop___patchable_function_entries; ++area) {
    // A kernel without bounds may lie behind another with them, whose code is in between.
    if (*area < entry &&
        std::all_of(*area, entry, [](uint8_t code) { return code == NO_OPERATION; })) {
      return static_cast<unsigned>(entry - *area);
    }
  }
  return 0;
}

}  // namespace emulator
