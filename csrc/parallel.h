// The only file that knows threads. The number of threads comes with each call: nothing is cached,
// so that torch.set_num_threads, forks and several callers cannot disturb each other.
#pragma once

#include <omp.h>

#include <cstdint>

#include "host_device.h"

namespace hessx {
namespace HESSX_LEVEL {

// Calls body(task, thread) for every task in [0, n_tasks), thread in [0, n_threads). Which thread
// takes a task is open, so a task must not read what another one writes.
template <class Body>
void parallel_for(int64_t n_tasks, int n_threads, const Body& body) {
  if (n_threads <= 1 || n_tasks <= 1) {
    for (int64_t task = 0; task < n_tasks; ++task) body(task, 0);
    return;
  }
#pragma omp parallel num_threads(n_threads)
  {
    const int thread = omp_get_thread_num();
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < n_tasks; ++task) body(task, thread);
  }
}

}  // namespace HESSX_LEVEL
}  // namespace hessx
