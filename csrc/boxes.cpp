// Box sums on the CPU: bands of rows, each through a ladder of sums that double in width.
#include "boxes.h"

#include <cstdlib>
#include <new>

#include "arena.h"
#include "counts.h"
#include "levels.h"
#include "parallel.h"
#include "vectors.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

// Rows of a task at the least; twice the largest side where that is more, as a band of pictures
// needs side - 1 rows beyond its own.
constexpr int64_t BAND = 32;

template <class Real>
int64_t largest_side(const BoxesCall<Real>& call) {
  int64_t largest = 1;
  for (int64_t k = 0; k < call.n_sides; ++k) {
    if (call.sides[k] > largest) largest = call.sides[k];
  }
  return largest;
}

template <class Real>
int64_t band_rows(const BoxesCall<Real>& call) {
  const int64_t twice = 2 * largest_side(call);
  return smaller(call.p1, twice > BAND ? twice : BAND);
}

template <class Real>
int64_t all_boxes(const BoxesCall<Real>& call) {
  int64_t count = 0;
  for (int64_t k = 0; k < call.n_sides; ++k) count += box_count(call.p1, call.p2, call.sides[k]);
  return count;
}

// The buffers of one thread: rows of a picture, and two for the steps of the ladder.
struct Buffers {
  Buffers(int64_t rows, int64_t columns, Arena& arena)
      : picture(arena.take<double>(rows * columns)),
        first(arena.take<double>(rows * columns)),
        second(arena.take<double>(rows * columns)) {}

  double *picture, *first, *second;
};

// Sums of `side` numbers, `step` apart: x(j) + x(j + step) + ..., for j < count. From one pass to
// the next they double in width, and take one number more where the binary digits of the side say
// so. Returns x itself or the buffer, of two, that holds them.
double* ladder(double* x, int64_t count, int64_t side, int64_t step, double* next, double* spare) {
  double* sums = x;
  int64_t width = 1, digit = 1;
  while (2 * digit <= side) digit *= 2;
  while (digit /= 2) {
    const bool odd = (side & digit) != 0;
    const int64_t wider = 2 * width + odd;
    const double* half = sums + width * step;
    const double* last = x + 2 * width * step;
    const double* from = sums;
    const int64_t n = count + (side - wider) * step;
    if (odd) {
      for_vectors<double>(n, [&](auto value, int64_t j) {
        using Value = decltype(value);
        store(next + j, (load<Value>(from + j) + load<Value>(half + j)) + load<Value>(last + j));
      });
    } else {
      for_vectors<double>(n, [&](auto value, int64_t j) {
        using Value = decltype(value);
        store(next + j, load<Value>(from + j) + load<Value>(half + j));
      });
    }
    width = wider;
    sums = next;
    next = spare;
    spare = sums;
  }
  return sums;
}

// Sums over the squares whose top-left corners are in the first `rows` rows of the buffer, which
// has `columns` columns. Rows lie end to end: what a sum adds up beyond the end of its row belongs
// to no square, and nobody reads it.
const double* windows(const Buffers& at, int64_t rows, int64_t columns, int64_t side) {
  const int64_t all = (rows + side - 1) * columns;
  double* along = ladder(at.picture, all - side + 1, side, 1, at.first, at.second);
  double* free = along == at.first ? at.second : at.first;
  return ladder(along, rows * columns - side + 1, side, columns, at.picture, free);
}

template <class Body>
void with_memory(int64_t bytes, const Body& body) {
  char* memory = static_cast<char*>(std::aligned_alloc(Arena::CACHE_LINE, bytes));
  if (memory == nullptr) throw std::bad_alloc();
  body(memory);
  std::free(memory);
}

template <class Real>
void box_sums(const BoxesCall<Real>& call) {
  const int64_t p1 = call.p1, p2 = call.p2, band = band_rows(call);
  const int64_t bands = ceil_div(p1, band), boxes = all_boxes(call);
  const int64_t buffer_rows = smaller(p1, band + largest_side(call) - 1);
  Arena own_count;
  Buffers(buffer_rows, p2, own_count);
  with_memory(call.n_threads * own_count.bytes(), [&](char* memory) {
    parallel_for(call.n * call.n_sides * bands, call.n_threads, [&](int64_t task, int thread) {
      Arena own(memory + thread * own_count.bytes());
      const Buffers at(buffer_rows, p2, own);
      const int64_t begin = task % bands * band;
      const int64_t k = task / bands % call.n_sides;
      const int64_t picture = task / bands / call.n_sides;
      const int64_t side = call.sides[k], columns = p2 - side + 1;
      const int64_t rows = smaller(band, p1 - side + 1 - begin);
      if (rows <= 0) return;
      const Real* x = call.x + (picture * p1 + begin) * p2;
      for (int64_t j = 0; j < (rows + side - 1) * p2; ++j) at.picture[j] = x[j];
      const double* sums = windows(at, rows, p2, side);
      Real* out = call.out + picture * boxes + begin * columns;
      for (int64_t before = 0; before < k; ++before) out += box_count(p1, p2, call.sides[before]);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          out[i * columns + j] = static_cast<Real>(sums[i * p2 + j]);
        }
      }
    });
  });
}

// The squares of one side that cover a pixel are the windows of that side over its numbers, put
// into a frame of zeros; `begin` and `rows` are those of the pixels.
template <class Real>
void frame(const Real* w, int64_t begin, int64_t rows, int64_t p1, int64_t p2, int64_t side,
           double* framed) {
  const int64_t margin = side - 1, columns = p2 - margin, width = p2 + margin;
  for (int64_t j = 0; j < (rows + margin) * width; ++j) framed[j] = 0;
  for (int64_t i = 0; i < rows + margin; ++i) {
    const int64_t corner = begin + i - margin;
    if (corner < 0 || corner >= p1 - margin) continue;
    for (int64_t j = 0; j < columns; ++j) framed[i * width + margin + j] = w[corner * columns + j];
  }
}

template <class Real>
void box_sums_adjoint(const BoxesCall<Real>& call) {
  const int64_t p1 = call.p1, p2 = call.p2, band = band_rows(call);
  const int64_t bands = ceil_div(p1, band), boxes = all_boxes(call);
  const int64_t margin = largest_side(call) - 1;
  Arena own_count;
  Buffers(band + margin, p2 + margin, own_count);
  own_count.take<double>(band * p2);
  with_memory(call.n_threads * own_count.bytes(), [&](char* memory) {
    parallel_for(call.n * bands, call.n_threads, [&](int64_t task, int thread) {
      Arena own(memory + thread * own_count.bytes());
      const Buffers at(band + margin, p2 + margin, own);
      double* total = own.take<double>(band * p2);
      const int64_t begin = task % bands * band, rows = smaller(band, p1 - begin);
      const int64_t picture = task / bands;
      for (int64_t j = 0; j < rows * p2; ++j) total[j] = 0;
      const Real* w = call.x + picture * boxes;
      for (int64_t k = 0; k < call.n_sides; ++k) {
        const int64_t side = call.sides[k], width = p2 + side - 1;
        frame(w, begin, rows, p1, p2, side, at.picture);
        const double* sums = windows(at, rows, width, side);
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t j = 0; j < p2; ++j) total[i * p2 + j] += sums[i * width + j];
        }
        w += box_count(p1, p2, side);
      }
      Real* out = call.out + (picture * p1 + begin) * p2;
      for (int64_t j = 0; j < rows * p2; ++j) out[j] = static_cast<Real>(total[j]);
    });
  });
}

}  // namespace

extern const BoxesKernels boxes_kernels;
const BoxesKernels boxes_kernels = {box_sums<float>, box_sums<double>, box_sums_adjoint<float>,
                                    box_sums_adjoint<double>};

}  // namespace HESSX_LEVEL
}  // namespace hessx
