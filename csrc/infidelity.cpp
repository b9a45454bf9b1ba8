// Perturbations times explanations on the CPU: blocks of rows, tile of columns by tile, so that a
// tile of all explanations stays in the first-level cache while the rows pass.
#include "infidelity.h"

#include <cstring>

#include "array.h"
#include "counts.h"
#include "inner_products.h"
#include "levels.h"
#include "parallel.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

// Columns of a tile, and the distance of its packed rows, which keeps them from falling into the
// same sets of the cache.
constexpr int64_t TILE = 512;
constexpr int64_t STRIDE = TILE + 8;
// Registers: HEIGHT x EXPLANATIONS accumulators of dot products and HEIGHT + 1 operands, or
// AT_ONCE x VECTORS numbers of rows and VECTORS sums of the moment, fit the 32 of AVX-512 and the
// 16 of the others.
#if defined(__AVX512F__)
constexpr int EXPLANATIONS = 6;
constexpr int VECTORS = 2;
#else
constexpr int EXPLANATIONS = WIDTH;
constexpr int VECTORS = 1;
#endif
constexpr int AT_ONCE = 8;
// Rows that share a packed tile.
constexpr int64_t ROWS = 64;
// Runs of blocks, of columns or of rows, that are added up on their own. A fixed number, so that no
// bit of the result depends on the number of threads.
constexpr int64_t RUNS = 8;

// Rows of so many columns are in the second-level cache from the dot products to the moment, and
// are read from memory once. Blocks of longer rows would have to be so small that the explanations
// and their gradient, 24 bytes a column and explanation for each block, cost more than a second
// reading of the perturbations: 4 bytes a column and row.
constexpr int64_t FUSED_COLUMNS = 4096;
constexpr int64_t FUSED_BYTES = 256 * 1024;

// [0, size) in runs of whole blocks: as many as there are blocks, or `limit`.
struct Runs {
  Runs(int64_t size, int64_t block, int64_t limit)
      : size(size),
        length(ceil_div(ceil_div(size, block), limit) * block),
        count(size ? ceil_div(size, length) : 0) {}

  int64_t begin(int64_t run) const { return run * length; }
  int64_t end(int64_t run) const { return smaller(size, (run + 1) * length); }

  int64_t size, length, count;
};

// Explanations of one input, tile by tile.
struct Explanations {
  const double* data;
  int64_t count, d;

  TileRows<double> pack(int64_t start, int64_t columns, double* packed) const {
    for (int64_t k = 0; k < count; ++k) {
      std::memcpy(packed + k * STRIDE, data + k * d + start, columns * sizeof(double));
    }
    return {packed, STRIDE};
  }
};

void add(const double* from, int64_t count, double* to) {
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

// dots (n, explanations) += the products over columns [begin, end).
template <class Real>
void add_dots(TileRows<Real> rows, int64_t n, const Explanations& explanations, int64_t begin,
              int64_t end, double* packed, double* dots) {
  for (int64_t start = begin; start < end; start += TILE) {
    const int64_t columns = smaller(TILE, end - start);
    const TileRows<double> tile = explanations.pack(start, columns, packed);
    add_inner_products<Real, double, EXPLANATIONS>({rows.data + start, rows.stride}, n, tile,
                                                   explanations.count, columns, false, dots,
                                                   explanations.count);
  }
}

// gradient (explanations, columns) += residuals^T rows, COUNT rows, a strip of columns at a time.
template <int COUNT, class Real>
void add_moment_of(TileRows<Real> rows, const double* residuals, int64_t explanations,
                   int64_t columns, double* gradient, int64_t gradient_stride) {
  constexpr int64_t STRIP = VECTORS * LANES<double>;
  int64_t c = 0;
  for (; c + STRIP <= columns; c += STRIP) {
    Lanes<double> x[COUNT][VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < COUNT; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; ++v) {
        x[i][v] = converted_lanes<double>(rows[i] + c + v * LANES<double>);
      }
    }
    for (int64_t k = 0; k < explanations; ++k) {
      double* to = gradient + k * gradient_stride + c;
      Lanes<double> sum[VECTORS];
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; ++v) sum[v] = lanes_at(to + v * LANES<double>);
#pragma GCC unroll 8
      for (int i = 0; i < COUNT; ++i) {
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; ++v) sum[v] += residuals[i * explanations + k] * x[i][v];
      }
      std::memcpy(to, sum, sizeof(sum));
    }
  }
  for (int64_t k = 0; k < explanations; ++k) {
    for (int64_t left = c; left < columns; ++left) {
      double& sum = gradient[k * gradient_stride + left];
      for (int i = 0; i < COUNT; ++i) sum += residuals[i * explanations + k] * rows[i][left];
    }
  }
}

// gradient (explanations, d) += residuals^T rows over columns [begin, end) of n rows.
template <class Real>
void add_moment(TileRows<Real> rows, int64_t n, const double* residuals, int64_t explanations,
                int64_t begin, int64_t end, double* gradient, int64_t d) {
  for (int64_t start = begin; start < end; start += TILE) {
    const int64_t columns = smaller(TILE, end - start);
    int64_t i = 0;
    const auto part = [&] { return TileRows<Real>{rows[i] + start, rows.stride}; };
    for (; i + AT_ONCE <= n; i += AT_ONCE) {
      add_moment_of<AT_ONCE>(part(), residuals + i * explanations, explanations, columns,
                             gradient + start, d);
    }
    for (; i < n; ++i) {
      add_moment_of<1>(part(), residuals + i * explanations, explanations, columns,
                       gradient + start, d);
    }
  }
}

// Turns dots (n, explanations) into weighted residuals and adds up the loss.
void take_residuals(int64_t n, int64_t explanations, const double* differences,
                    const double* weights, double* dots, double* loss) {
  for (int64_t i = 0; i < n; ++i) {
    const double weight = weights == nullptr ? 1 : weights[i];
    for (int64_t k = 0; k < explanations; ++k) {
      const double residual = dots[i * explanations + k] - differences[i * explanations + k];
      const double weighted = weight * residual;
      loss[k] += weighted * residual;
      dots[i * explanations + k] = weighted;
    }
  }
}

template <class Real>
TileRows<Real> rows_of(const RowSets<Real>& sets, int64_t batch, int64_t first) {
  return {sets.data + batch * sets.batch_stride + first * sets.row_stride, sets.row_stride};
}

template <class Real>
void perturbation_dots(const PerturbationDotsCall<Real>& call) {
  const int64_t count = call.explanations;
  if (call.n == 0) return;
  const Runs blocks(call.n, ROWS, call.n);
  // Few long rows are shared out by their columns as well.
  const Runs columns(call.d, TILE, call.d <= FUSED_COLUMNS ? 1 : RUNS);
  const int64_t size = call.batch * call.n * count;
  const int64_t tasks = call.batch * blocks.count * columns.count;
  const int threads = static_cast<int>(smaller(call.n_threads, tasks));
  const Array<double> packed(threads * count * STRIDE);
  // The first run's sums are the result's own storage.
  const Array<double> partials(columns.count > 1 ? (columns.count - 1) * size : 0);
  std::memset(call.dots, 0, size * sizeof(double));
  parallel_for(tasks, threads, [&](int64_t task, int thread) {
    const int64_t run = task % columns.count, block = task / columns.count % blocks.count;
    const int64_t batch = task / columns.count / blocks.count;
    const int64_t first = blocks.begin(block), n = blocks.end(block) - first;
    const int64_t at = (batch * call.n + first) * count;
    double* to = run == 0 ? call.dots + at : partials + ((run - 1) * size + at);
    if (run > 0) std::memset(to, 0, n * count * sizeof(double));
    add_dots(rows_of(call.perturbations, batch, first), n,
             {call.attributions + batch * count * call.d, count, call.d}, columns.begin(run),
             columns.end(run), packed + thread * count * STRIDE, to);
  });
  for (int64_t run = 1; run < columns.count; ++run) {
    add(partials + (run - 1) * size, size, call.dots);
  }
}

// Dot products, residuals and moment of a block of rows before the next one is read; runs of
// blocks are the tasks of threads.
template <class Real>
void fused_gradient(const PerturbationGradientCall<Real>& call) {
  const int64_t count = call.explanations, d = call.d;
  const int64_t fitting = FUSED_BYTES / (d * static_cast<int64_t>(sizeof(Real)) + 1);
  const int64_t block = fitting < AT_ONCE ? AT_ONCE : smaller(ROWS, fitting / AT_ONCE * AT_ONCE);
  const Runs runs(call.n, block, RUNS);
  const int64_t size = call.batch * count;
  const int64_t tasks = call.batch * runs.count;
  const int threads = static_cast<int>(smaller(call.n_threads, tasks));
  const Array<double> packed(threads * count * STRIDE), dots(threads * count * ROWS);
  // The first run's sums are the result's own storage.
  const int64_t others = runs.count > 1 ? runs.count - 1 : 0;
  const Array<double> gradients(others * size * d), losses(others * size);
  parallel_for(tasks, threads, [&](int64_t task, int thread) {
    const int64_t run = task % runs.count, batch = task / runs.count;
    const Explanations explanations = {call.attributions + batch * count * d, count, d};
    double *gradient = call.gradient, *loss = call.loss;
    if (run > 0) {
      gradient = gradients + (run - 1) * size * d;
      loss = losses + (run - 1) * size;
    }
    gradient += batch * count * d;
    loss += batch * count;
    std::memset(gradient, 0, count * d * sizeof(double));
    std::memset(loss, 0, count * sizeof(double));
    double* residuals = dots + thread * count * ROWS;
    for (int64_t first = runs.begin(run); first < runs.end(run); first += block) {
      const int64_t n = smaller(block, runs.end(run) - first);
      const TileRows<Real> rows = rows_of(call.perturbations, batch, first);
      std::memset(residuals, 0, n * count * sizeof(double));
      add_dots(rows, n, explanations, 0, d, packed + thread * count * STRIDE, residuals);
      take_residuals(n, count, call.differences + (batch * call.n + first) * count,
                     call.weights == nullptr ? nullptr : call.weights + first, residuals, loss);
      add_moment(rows, n, residuals, count, 0, d, gradient, d);
    }
  });
  parallel_for(call.batch * count, call.n_threads, [&](int64_t row, int) {
    for (int64_t run = 0; run < others; ++run) {
      add(gradients + (run * size + row) * d, d, call.gradient + row * d);
      call.loss[row] += *(losses + (run * size + row));
    }
  });
}

// All dot products first, then the moments, tile of columns by tile.
template <class Real>
void separate_gradient(const PerturbationGradientCall<Real>& call) {
  const int64_t count = call.explanations, d = call.d;
  const Array<double> dots(call.batch * call.n * count);
  perturbation_dots<Real>({call.perturbations, call.attributions, call.batch, call.n, count, d,
                           dots + 0, call.n_threads});
  parallel_for(call.batch, call.n_threads, [&](int64_t batch, int) {
    std::memset(call.loss + batch * count, 0, count * sizeof(double));
    take_residuals(call.n, count, call.differences + batch * call.n * count, call.weights,
                   dots + batch * call.n * count, call.loss + batch * count);
  });
  const int64_t tiles = ceil_div(d, TILE);
  parallel_for(call.batch * tiles, call.n_threads, [&](int64_t task, int) {
    const int64_t batch = task / tiles, start = task % tiles * TILE;
    const int64_t end = smaller(d, start + TILE);
    double* gradient = call.gradient + batch * count * d;
    for (int64_t k = 0; k < count; ++k) {
      std::memset(gradient + k * d + start, 0, (end - start) * sizeof(double));
    }
    add_moment(rows_of(call.perturbations, batch, 0), call.n, dots + batch * call.n * count, count,
               start, end, gradient, d);
  });
}

template <class Real>
void perturbation_gradient(const PerturbationGradientCall<Real>& call) {
  if (call.n == 0) {
    std::memset(call.gradient, 0, call.batch * call.explanations * call.d * sizeof(double));
    std::memset(call.loss, 0, call.batch * call.explanations * sizeof(double));
  } else if (call.d <= FUSED_COLUMNS) {
    fused_gradient(call);
  } else {
    separate_gradient(call);
  }
}

}  // namespace

extern const InfidelityKernels infidelity_kernels;
const InfidelityKernels infidelity_kernels = {perturbation_dots<float>, perturbation_dots<double>,
                                              perturbation_gradient<float>,
                                              perturbation_gradient<double>};

}  // namespace HESSX_LEVEL
}  // namespace hessx
