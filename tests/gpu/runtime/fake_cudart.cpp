// A CUDA runtime that runs nothing. It stands in for libcudart_static when csrc/bind_cuda.cpp and
// the objects of nvcc are linked, writes down each launch and refuses those that no GPU would run.
// Limits are those of compute capability 9.0, the error codes and texts are CUDA's.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace {

struct Dim3 {
  unsigned x, y, z;
};

enum Status {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  INVALID_CONFIGURATION = 9,
  INVALID_DEVICE_FUNCTION = 98,
  INVALID_DEVICE = 101,
  LAUNCH_OUT_OF_RESOURCES = 701,
};

constexpr int MAX_DYNAMIC_SHARED_MEMORY_SIZE = 8;  // cudaFuncAttribute
constexpr unsigned MAX_GRID_X = 2147483647, MAX_GRID_YZ = 65535;
constexpr unsigned MAX_BLOCK = 1024, MAX_BLOCK_Z = 64;
constexpr size_t DEFAULT_SHARED = 48 * 1024, MAX_SHARED = 227 * 1024;
constexpr int DEVICES = 2, NO_DEVICE = -1, MAX_ARGUMENTS = 32;

// What the compiled code says of a kernel, entered by hessx_fake_declare.
struct Kernel {
  std::string name;
  std::vector<size_t> argument_bytes;
  unsigned max_threads = 0;
  // The attribute belongs to the kernel on one device.
  size_t dynamic_shared[DEVICES] = {DEFAULT_SHARED, DEFAULT_SHARED};
};

struct Launch {
  char kernel[128];
  unsigned grid[3], block[3];
  size_t shared;
  uint64_t stream;
  int device;
  uint64_t arguments[MAX_ARGUMENTS];
};

struct Runtime {
  std::map<std::string, Kernel> declared;
  std::map<const void*, std::string> registered;
  std::vector<Launch> launches;
  int device = NO_DEVICE;
  int failure = SUCCESS;
};

// Objects register their kernels before main, in any order.
Runtime& runtime() {
  static Runtime* only = new Runtime;
  return *only;
}

Kernel* find(const void* function) {
  const auto registered = runtime().registered.find(function);
  if (registered == runtime().registered.end()) return nullptr;
  const auto declared = runtime().declared.find(registered->second);
  return declared == runtime().declared.end() ? nullptr : &declared->second;
}

bool possible(const Kernel& kernel, Dim3 grid, Dim3 block) {
  const size_t threads = size_t(block.x) * block.y * block.z;
  return grid.x && grid.y && grid.z && threads && grid.x <= MAX_GRID_X && grid.y <= MAX_GRID_YZ &&
         grid.z <= MAX_GRID_YZ && threads <= MAX_BLOCK && block.z <= MAX_BLOCK_Z &&
         threads <= kernel.max_threads;
}

Launch record(const Kernel& kernel, Dim3 grid, Dim3 block, void** arguments, size_t shared,
              void* stream) {
  Launch launch = {};
  std::strncpy(launch.kernel, kernel.name.c_str(), sizeof(launch.kernel) - 1);
  std::memcpy(launch.grid, &grid, sizeof(grid));
  std::memcpy(launch.block, &block, sizeof(block));
  launch.shared = shared;
  launch.stream = reinterpret_cast<uint64_t>(stream);
  launch.device = runtime().device;
  for (size_t i = 0; i < kernel.argument_bytes.size(); ++i) {
    std::memcpy(&launch.arguments[i], arguments[i], kernel.argument_bytes[i]);
  }
  return launch;
}

}  // namespace

extern "C" {

// What nvcc's objects call when they are loaded.
void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 1; }
void __cudaRegisterFunction(void**, const char* stub, char*, const char* name, int, void*, void*,
                            void*, void*, int*) {
  runtime().registered[stub] = name;
}

// What their host stubs call when a kernel is called as a function, which hessx never does.
int __cudaGetKernel(void**, const void*) { return INVALID_DEVICE_FUNCTION; }
unsigned __cudaPopCallConfiguration(Dim3*, Dim3*, size_t*, void*) { return INVALID_CONFIGURATION; }
int __cudaLaunchKernel(void*, Dim3, Dim3, void**, size_t, void*) { return INVALID_DEVICE_FUNCTION; }

// What csrc/bind_cuda.cpp calls.
int cudaSetDevice(int device) {
  if (device < 0 || device >= DEVICES) return INVALID_DEVICE;
  runtime().device = device;
  return SUCCESS;
}

int cudaFuncSetAttribute(const void* function, int attribute, int value) {
  Kernel* kernel = find(function);
  if (!kernel || runtime().device == NO_DEVICE) return INVALID_DEVICE_FUNCTION;
  if (attribute != MAX_DYNAMIC_SHARED_MEMORY_SIZE) return INVALID_VALUE;
  if (value < 0 || size_t(value) > MAX_SHARED) return INVALID_VALUE;
  kernel->dynamic_shared[runtime().device] = value;
  return SUCCESS;
}

int cudaLaunchKernel(const void* function, Dim3 grid, Dim3 block, void** arguments, size_t shared,
                     void* stream) {
  const Kernel* kernel = find(function);
  if (!kernel) return INVALID_DEVICE_FUNCTION;
  // A launch that does not name its device would run on whichever the last one named.
  if (runtime().device == NO_DEVICE) return INVALID_DEVICE;
  if (!possible(*kernel, grid, block)) return INVALID_CONFIGURATION;
  if (shared > kernel->dynamic_shared[runtime().device]) return INVALID_VALUE;
  const int failure = runtime().failure;
  runtime().failure = SUCCESS;
  if (!failure) {
    runtime().launches.push_back(record(*kernel, grid, block, arguments, shared, stream));
  }
  runtime().device = NO_DEVICE;
  return failure;
}

const char* cudaGetErrorString(int status) {
  switch (status) {
    case SUCCESS: return "no error";
    case INVALID_VALUE: return "invalid argument";
    case INVALID_CONFIGURATION: return "invalid configuration argument";
    case INVALID_DEVICE_FUNCTION: return "invalid device function";
    case INVALID_DEVICE: return "invalid device ordinal";
    case LAUNCH_OUT_OF_RESOURCES: return "too many resources requested for launch";
  }
  return "unrecognized error code";
}

// What the tests call.
#define EXPORTED __attribute__((visibility("default")))

EXPORTED void hessx_fake_declare(const char* name, const size_t* argument_bytes, int arguments,
                                 unsigned max_threads) {
  Kernel& kernel = runtime().declared[name];
  kernel.name = name;
  kernel.argument_bytes.assign(argument_bytes, argument_bytes + arguments);
  kernel.max_threads = max_threads;
}

EXPORTED int hessx_fake_launches() { return static_cast<int>(runtime().launches.size()); }
EXPORTED const Launch* hessx_fake_launch(int i) { return &runtime().launches[i]; }

// The next launch that is possible fails all the same, as for an error of an earlier kernel.
EXPORTED void hessx_fake_fail(int status) { runtime().failure = status; }

EXPORTED void hessx_fake_forget() {
  runtime().launches.clear();
  runtime().device = NO_DEVICE;
  runtime().failure = SUCCESS;
  for (auto& [name, kernel] : runtime().declared) {
    for (size_t& bytes : kernel.dynamic_shared) bytes = DEFAULT_SHARED;
  }
}

}  // extern "C"
