// The shared memory that a launch asks for, seen by every CUDA kernel under this one name.
#pragma once

namespace hessx {

extern __shared__ __align__(16) unsigned char shared_memory[];

}  // namespace hessx
