#include "emulator/launch.h"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "block.h"
#include "emulator/kernel_table.h"
#include "fault.h"
#include "image.h"
#include "launch.h"
#include "memory.h"

extern "C" [[gnu::weak]] void* __tsan_create_fiber(unsigned flags);

namespace emulator {

namespace {

constexpr unsigned MAX_THREADS = 1024;
constexpr size_t MAX_UNASKED_SHARED_BYTES = 48 * 1024;
constexpr unsigned MAX_GRID_X = 0x7fffffff, MAX_GRID_YZ = 65535, MAX_BLOCK_Z = 64;

std::map<const void*, size_t>& shared_bytes_asked() {
  static std::map<const void*, size_t> bytes;
  return bytes;
}

std::string text_of(dim3 size) { return emulator::text_of(uint3{size.x, size.y, size.z}); }

// What makes a launch impossible, or nothing.
std::string impossible(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const unsigned bound = launch_bound(kernel);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > MAX_GRID_X || grid.y > MAX_GRID_YZ ||
      grid.z > MAX_GRID_YZ) {
    return "a grid of " + text_of(grid) + " blocks";
  }
  if (threads == 0 || threads > MAX_THREADS || block.z > MAX_BLOCK_Z) {
    return "a block of " + text_of(block) + " threads";
  }
  if (bound != 0 && threads > bound) {
    return "a block of " + std::to_string(threads) + " threads, above the launch bound of " +
           std::to_string(bound);
  }
  if (shared_bytes > MAX_UNASKED_SHARED_BYTES && shared_bytes > shared_bytes_asked()[kernel]) {
    return std::to_string(shared_bytes) + " bytes of shared memory, which were not asked for";
  }
  return "";
}

cudaError_t refuse(cudaError_t status, const std::string& message) {
  last_fault() = Fault{"launch", message};
  return status;
}

// Independent of the order in which blocks run.
unsigned seed_of(unsigned seed, unsigned block) {
  return seed == 0 ? 0 : (seed * 2654435761u + block * 40503u) | 1u;
}

}  // namespace

unsigned launch_seed = 0;

Fault& last_fault() {
  static Fault fault;
  return fault;
}

void fail(Fault fault) {
  fault.in_thread = true;
  fault.block = Block::current->index();
  fault.thread = Block::current->running().index;
  last_fault() = std::move(fault);
  Block::current->abandon();
}

std::string text_of(uint3 index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
         std::to_string(index.z) + ")";
}

std::vector<KernelEntry>& kernel_table() {
  static std::vector<KernelEntry> table;
  return table;
}

cudaError_t allow_shared_bytes(const void* kernel, cudaFuncAttribute attribute, int bytes) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || bytes < 0 ||
      static_cast<size_t>(bytes) > Memory::MAX_SHARED_BYTES) {
    return refuse(cudaErrorInvalidValue, std::to_string(bytes) + " bytes of shared memory");
  }
  shared_bytes_asked()[kernel] = bytes;
  return cudaSuccess;
}

cudaError_t launch(const Body& body, dim3 grid, dim3 block, size_t shared_bytes) {
  last_fault() = {};
  if (const std::string what = impossible(body.kernel, grid, block, shared_bytes); !what.empty()) {
    return refuse(cudaErrorInvalidConfiguration, what);
  }
  std::vector<unsigned> order(size_t{grid.x} * grid.y * grid.z);
  std::iota(order.begin(), order.end(), 0u);
  if (launch_seed != 0) {
    std::shuffle(order.begin(), order.end(), std::minstd_rand(launch_seed));
  }
  memory().begin_launch(shared_bytes);
  static StackPool kept_stacks;
  const auto run = [&](unsigned n, StackPool& stacks) {
    const uint3 index = {n % grid.x, n / grid.x % grid.y, n / grid.x / grid.y};
    stacks.reserve(block.x * block.y * block.z);
    memory().begin_block(index, stacks);
    // On the heap, where ThreadSanitizer forgets what a freed block's barriers have ordered.
    std::make_unique<Block>(index, block, grid, body, stacks, seed_of(launch_seed, n))->run();
  };
  for (const unsigned n : order) {
    if (__tsan_create_fiber) {
      // Shared memory and stacks of its own for each block: ThreadSanitizer would take the next
      // block's use of the same addresses for a race.
      std::thread([&] {
        StackPool stacks;
        run(n, stacks);
      }).join();
    } else {
      run(n, kept_stacks);
    }
    if (!last_fault().kind.empty()) break;
  }
  Block::acquire_ended_threads();
  memory().end_launch();
  return last_fault().kind.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

}  // namespace emulator

cudaError_t cudaSetDevice(int device) {
  if (device == 0) return cudaSuccess;
  return emulator::refuse(cudaErrorInvalidDevice, "there is no device " + std::to_string(device));
}

const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaSuccess ? "no error" : emulator::last_fault().message.c_str();
}
