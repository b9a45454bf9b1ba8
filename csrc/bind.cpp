// The Python module hessx._native: the only file that knows pybind11. Tensors come as addresses,
// sizes and strides, so that no torch is needed to build and none is tied to the binary.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>
#include <vector>

#include "levels.h"

namespace py = pybind11;

namespace {

using namespace hessx;
using namespace py::literals;

using Address = uintptr_t;
using Strides2 = std::array<int64_t, 2>;
using Strides3 = std::array<int64_t, 3>;

std::vector<std::string> level_names(bool supported_only) {
  const Levels levels = built_levels();
  std::vector<std::string> names;
  for (int i = 0; i < levels.count; ++i) {
    if (levels.level[i].supported || !supported_only) names.emplace_back(levels.level[i].name);
  }
  return names;
}

const Level& find_level(const std::string& name) {
  static const Levels levels = built_levels();
  for (int i = 0; i < levels.count; ++i) {
    if (name == levels.level[i].name && levels.level[i].supported) return levels.level[i];
  }
  throw py::value_error("level must be one that this processor supports, got '" + name + "'");
}

template <class Real>
Real* pointer(Address address) {
  return reinterpret_cast<Real*>(address);
}

template <class Real>
Samples<Real> samples(Address address, const Strides3& strides) {
  return {pointer<const Real>(address), strides[0], strides[1], strides[2]};
}

template <class Real>
Weights<Real> weights(Address address, const Strides2& strides) {
  return {pointer<const Real>(address), strides[0], strides[1]};
}

template <class Real, auto KERNEL>
void noise(Address out, Strides2 shape, Strides2 strides, uint64_t seed, uint64_t first_sample,
           uint32_t stream, int64_t first_block, int n_threads, const std::string& level) {
  const auto kernel = find_level(level).noise->*KERNEL;
  const py::gil_scoped_release released;
  kernel(pointer<Real>(out), {shape[0], shape[1], strides[0], strides[1], seed, first_sample,
                              stream, first_block, n_threads});
}

template <class Real, auto KERNEL>
void sums(Address x, Strides3 x_strides, Address weight, Strides2 weight_strides, bool squares,
          int64_t batch, int64_t n, int64_t k, Address out, int n_threads,
          const std::string& level) {
  const auto kernel = find_level(level).moments->*KERNEL;
  const py::gil_scoped_release released;
  kernel({samples<Real>(x, x_strides), weights<Real>(weight, weight_strides), squares, batch, n, k,
          pointer<double>(out), n_threads});
}

template <class Real, auto KERNEL>
void cross_moments(Address u, Strides3 u_strides, Address v, Strides3 v_strides, Address weight,
                   Strides2 weight_strides, int64_t batch, int64_t n, int64_t k, int64_t l,
                   Address uv, int n_threads, const std::string& level) {
  const auto kernel = find_level(level).moments->*KERNEL;
  const py::gil_scoped_release released;
  kernel({samples<Real>(u, u_strides), samples<Real>(v, v_strides),
          weights<Real>(weight, weight_strides), batch, n, k, l, pointer<double>(uv), n_threads});
}

template <class Real, auto KERNEL>
void core_moments(Address u, Strides3 u_strides, Address w, Strides3 w_strides, int64_t batch,
                  int64_t n, int64_t k, Address uw, Address u2w2, Address cross, int n_threads,
                  const std::string& level) {
  const auto kernel = find_level(level).moments->*KERNEL;
  const py::gil_scoped_release released;
  kernel({samples<Real>(u, u_strides), samples<Real>(w, w_strides), batch, n, k,
          pointer<double>(uw), pointer<double>(u2w2), pointer<double>(cross), n_threads});
}

template <class Real, auto KERNEL>
void eigh(Address a, Strides3 strides, int64_t batch, int64_t k, Address values, Address vectors,
          int n_threads, const std::string& level) {
  const auto kernel = find_level(level).eigh->*KERNEL;
  const py::gil_scoped_release released;
  kernel({pointer<const Real>(a), strides[0], strides[1], strides[2], batch, k,
          pointer<Real>(values), pointer<Real>(vectors), n_threads});
}

template <class Real, auto KERNEL>
void trust_region(Address eigenvalues, Strides2 eigenvalues_strides, Address gradient,
                  Strides2 gradient_strides, Address radius, int64_t radius_stride, int64_t batch,
                  int64_t k, Address step, Address multiplier, int n_threads,
                  const std::string& level) {
  const auto kernel = find_level(level).trust_region->*KERNEL;
  const py::gil_scoped_release released;
  kernel({pointer<const Real>(eigenvalues), eigenvalues_strides[0], eigenvalues_strides[1],
          pointer<const Real>(gradient), gradient_strides[0], gradient_strides[1],
          pointer<const Real>(radius), radius_stride, batch, k, pointer<Real>(step),
          pointer<Real>(multiplier), n_threads});
}

template <class Real, auto KERNEL>
void softmax_product(Address probabilities, Address vectors, Address out, int64_t batch, int64_t m,
                     int64_t classes, int n_threads, const std::string& level) {
  const auto kernel = find_level(level).softmax->*KERNEL;
  const py::gil_scoped_release released;
  kernel({pointer<const Real>(probabilities), pointer<const Real>(vectors), pointer<Real>(out),
          batch, m, classes, n_threads});
}

template <class Real, auto KERNEL>
void soft_threshold(Address x, Address threshold, Address out, int64_t rows, int64_t d,
                    int n_threads, const std::string& level) {
  const auto kernel = find_level(level).shrink->*KERNEL;
  const py::gil_scoped_release released;
  kernel({pointer<const Real>(x), pointer<const Real>(threshold), pointer<Real>(out), rows, d,
          n_threads});
}

template <class Real, auto KERNEL>
void fista_step(Address gradient, Address product, Address point, Address previous, Address step,
                Address momentum, Address lambda1, Address lambda2, Address next,
                Address extrapolated, Address sums, int64_t batch, int64_t m, int64_t d,
                int n_threads, const std::string& level) {
  const auto kernel = find_level(level).shrink->*KERNEL;
  const py::gil_scoped_release released;
  kernel({pointer<const Real>(gradient), pointer<const Real>(product), pointer<const Real>(point),
          pointer<const Real>(previous), pointer<const Real>(step), pointer<const Real>(momentum),
          pointer<const Real>(lambda1), pointer<const Real>(lambda2), pointer<Real>(next),
          pointer<Real>(extrapolated), pointer<double>(sums), batch, m, d, n_threads});
}

template <class Real>
RowSets<Real> row_sets(Address address, const Strides2& strides) {
  return {pointer<const Real>(address), strides[0], strides[1]};
}

template <class Real, auto KERNEL>
void prox_pass(Address basis, Strides2 basis_strides, Address gradient, int64_t gradient_stride,
               Address z, Address lambda1, int64_t batch, int64_t lambdas, int64_t r, int64_t d,
               Address w, Address sums, Address gram, int n_threads, const std::string& level) {
  const auto kernel = find_level(level).prox->*KERNEL;
  const py::gil_scoped_release released;
  kernel({row_sets<Real>(basis, basis_strides), pointer<const Real>(gradient), gradient_stride,
          pointer<const Real>(z), pointer<const Real>(lambda1), batch, lambdas, r, d,
          pointer<double>(w), pointer<double>(sums), pointer<double>(gram), n_threads});
}

template <class Real, auto KERNEL>
void gram(Address x, Strides2 strides, int64_t batch, int64_t rows, int64_t d, Address gram,
          int n_threads, const std::string& level) {
  const auto kernel = find_level(level).prox->*KERNEL;
  const py::gil_scoped_release released;
  kernel({row_sets<Real>(x, strides), batch, rows, d, pointer<double>(gram), n_threads});
}

template <class Real, auto KERNEL>
void grid(Address x, Address out, int64_t n, int64_t p1, int64_t p2, int n_threads,
          const std::string& level) {
  const auto kernel = find_level(level).grid->*KERNEL;
  const py::gil_scoped_release released;
  kernel({pointer<const Real>(x), pointer<Real>(out), n, p1, p2, n_threads});
}

template <class Real, auto KERNEL>
void grid_normal(Address out, int64_t n, int64_t p1, int64_t p2, uint64_t seed,
                 uint64_t first_sample, uint32_t stream, int n_threads, const std::string& level) {
  const auto kernel = find_level(level).grid_noise->*KERNEL;
  const py::gil_scoped_release released;
  kernel(pointer<Real>(out), {n, p1, p2, seed, first_sample, stream, n_threads});
}

template <class Real, auto KERNEL>
void edge_prox(Address z, Address centre, Address radius, Address threshold, Address out,
               int64_t rows, int64_t m, int n_threads, const std::string& level) {
  const auto kernel = find_level(level).edges->*KERNEL;
  const py::gil_scoped_release released;
  kernel({pointer<const Real>(z), pointer<const Real>(centre), pointer<const Real>(radius),
          pointer<const Real>(threshold), pointer<Real>(out), rows, m, n_threads});
}

template <class Real, auto KERNEL>
void edge_divergence(Address z, Address centre, Address radius, Address threshold, Address out,
                     int64_t rows, int64_t p1, int64_t p2, int n_threads,
                     const std::string& level) {
  const auto kernel = find_level(level).edges->*KERNEL;
  const py::gil_scoped_release released;
  kernel({pointer<const Real>(z), pointer<const Real>(centre), pointer<const Real>(radius),
          pointer<const Real>(threshold), pointer<Real>(out), rows, p1, p2, n_threads});
}

template <class Real, auto KERNEL>
void edge_update(Address z, Address anchor, Address centre, Address potential, Address radius,
                 Address threshold, Address weight, Address next, Address residual, int64_t rows,
                 int64_t p1, int64_t p2, int n_threads, const std::string& level) {
  const auto kernel = find_level(level).edges->*KERNEL;
  const py::gil_scoped_release released;
  kernel({pointer<const Real>(z), pointer<const Real>(anchor), pointer<const Real>(centre),
          pointer<const Real>(potential), pointer<const Real>(radius),
          pointer<const Real>(threshold), pointer<const Real>(weight), pointer<Real>(next),
          pointer<double>(residual), rows, p1, p2, n_threads});
}

template <class Real, auto KERNEL>
void perturbation_dots(Address perturbations, Strides2 perturbations_strides, Address attributions,
                       int64_t batch, int64_t n, int64_t explanations, int64_t d, Address dots,
                       int n_threads, const std::string& level) {
  const auto kernel = find_level(level).infidelity->*KERNEL;
  const py::gil_scoped_release released;
  kernel({row_sets<Real>(perturbations, perturbations_strides), pointer<const double>(attributions),
          batch, n, explanations, d, pointer<double>(dots), n_threads});
}

template <class Real, auto KERNEL>
void perturbation_gradient(Address perturbations, Strides2 perturbations_strides,
                           Address attributions, Address differences, Address weights,
                           int64_t batch, int64_t n, int64_t explanations, int64_t d,
                           Address gradient, Address loss, int n_threads,
                           const std::string& level) {
  const auto kernel = find_level(level).infidelity->*KERNEL;
  const py::gil_scoped_release released;
  kernel({row_sets<Real>(perturbations, perturbations_strides), pointer<const double>(attributions),
          pointer<const double>(differences), pointer<const double>(weights), batch, n,
          explanations, d, pointer<double>(gradient), pointer<double>(loss), n_threads});
}

void tv_flow(Address estimate, Address radius, int64_t batch, int64_t values, int64_t p1,
             int64_t p2, Address solution, Address potential, Address pivots, int n_threads,
             const std::string& level) {
  const auto kernel = find_level(level).tv_flow->solve;
  const py::gil_scoped_release released;
  kernel({pointer<const double>(estimate), pointer<const double>(radius), batch, values, p1, p2,
          pointer<double>(solution), pointer<int32_t>(potential), pointer<int64_t>(pivots),
          n_threads});
}

template <class Real, auto KERNEL>
void boxes(Address x, Address out, int64_t n, int64_t p1, int64_t p2,
           const std::vector<int64_t>& sides, int n_threads, const std::string& level) {
  const auto kernel = find_level(level).boxes->*KERNEL;
  const py::gil_scoped_release released;
  const int64_t n_sides = static_cast<int64_t>(sides.size());
  kernel({pointer<const Real>(x), pointer<Real>(out), n, p1, p2, sides.data(), n_sides, n_threads});
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "CPU kernels of hessx on raw addresses; hessx.ops is the public face.";
  m.def(
      "levels", [] { return level_names(true); },
      "Instruction-set levels that this processor runs, the best one last.");
  m.def("all_levels", [] { return level_names(false); }, "Instruction-set levels that were built.");

  m.def("uniform_float", noise<float, &NoiseKernels::uniform_float>, "out"_a, "shape"_a,
        "strides"_a, "seed"_a, "first_sample"_a, "stream"_a, "first_block"_a, "n_threads"_a,
        "level"_a);
  m.def("uniform_double", noise<double, &NoiseKernels::uniform_double>, "out"_a, "shape"_a,
        "strides"_a, "seed"_a, "first_sample"_a, "stream"_a, "first_block"_a, "n_threads"_a,
        "level"_a);
  m.def("normal_float", noise<float, &NoiseKernels::normal_float>, "out"_a, "shape"_a, "strides"_a,
        "seed"_a, "first_sample"_a, "stream"_a, "first_block"_a, "n_threads"_a, "level"_a);
  m.def("normal_double", noise<double, &NoiseKernels::normal_double>, "out"_a, "shape"_a,
        "strides"_a, "seed"_a, "first_sample"_a, "stream"_a, "first_block"_a, "n_threads"_a,
        "level"_a);

  m.def("sums_float", sums<float, &MomentsKernels::sums_float>, "x"_a, "x_strides"_a, "weight"_a,
        "weight_strides"_a, "squares"_a, "batch"_a, "n"_a, "k"_a, "out"_a, "n_threads"_a,
        "level"_a);
  m.def("sums_double", sums<double, &MomentsKernels::sums_double>, "x"_a, "x_strides"_a, "weight"_a,
        "weight_strides"_a, "squares"_a, "batch"_a, "n"_a, "k"_a, "out"_a, "n_threads"_a,
        "level"_a);
  m.def("cross_moments_float", cross_moments<float, &MomentsKernels::cross_float>, "u"_a,
        "u_strides"_a, "v"_a, "v_strides"_a, "weight"_a, "weight_strides"_a, "batch"_a, "n"_a,
        "k"_a, "l"_a, "uv"_a, "n_threads"_a, "level"_a);
  m.def("cross_moments_double", cross_moments<double, &MomentsKernels::cross_double>, "u"_a,
        "u_strides"_a, "v"_a, "v_strides"_a, "weight"_a, "weight_strides"_a, "batch"_a, "n"_a,
        "k"_a, "l"_a, "uv"_a, "n_threads"_a, "level"_a);
  m.def("core_moments_float", core_moments<float, &MomentsKernels::core_float>, "u"_a,
        "u_strides"_a, "w"_a, "w_strides"_a, "batch"_a, "n"_a, "k"_a, "uw"_a, "u2w2"_a, "cross"_a,
        "n_threads"_a, "level"_a);
  m.def("core_moments_double", core_moments<double, &MomentsKernels::core_double>, "u"_a,
        "u_strides"_a, "w"_a, "w_strides"_a, "batch"_a, "n"_a, "k"_a, "uw"_a, "u2w2"_a, "cross"_a,
        "n_threads"_a, "level"_a);

  m.def("eigh_float", eigh<float, &EighKernels::eigh_float>, "a"_a, "strides"_a, "batch"_a, "k"_a,
        "values"_a, "vectors"_a, "n_threads"_a, "level"_a);
  m.def("eigh_double", eigh<double, &EighKernels::eigh_double>, "a"_a, "strides"_a, "batch"_a,
        "k"_a, "values"_a, "vectors"_a, "n_threads"_a, "level"_a);

  m.def("trust_region_float", trust_region<float, &TrustRegionKernels::solve_float>,
        "eigenvalues"_a, "eigenvalues_strides"_a, "gradient"_a, "gradient_strides"_a, "radius"_a,
        "radius_stride"_a, "batch"_a, "k"_a, "step"_a, "multiplier"_a, "n_threads"_a, "level"_a);
  m.def("trust_region_double", trust_region<double, &TrustRegionKernels::solve_double>,
        "eigenvalues"_a, "eigenvalues_strides"_a, "gradient"_a, "gradient_strides"_a, "radius"_a,
        "radius_stride"_a, "batch"_a, "k"_a, "step"_a, "multiplier"_a, "n_threads"_a, "level"_a);

  m.def("softmax_product_float", softmax_product<float, &SoftmaxKernels::product_float>,
        "probabilities"_a, "vectors"_a, "out"_a, "batch"_a, "m"_a, "classes"_a, "n_threads"_a,
        "level"_a);
  m.def("softmax_product_double", softmax_product<double, &SoftmaxKernels::product_double>,
        "probabilities"_a, "vectors"_a, "out"_a, "batch"_a, "m"_a, "classes"_a, "n_threads"_a,
        "level"_a);

  m.def("soft_threshold_float", soft_threshold<float, &ShrinkKernels::soft_threshold_float>, "x"_a,
        "threshold"_a, "out"_a, "rows"_a, "d"_a, "n_threads"_a, "level"_a);
  m.def("soft_threshold_double", soft_threshold<double, &ShrinkKernels::soft_threshold_double>,
        "x"_a, "threshold"_a, "out"_a, "rows"_a, "d"_a, "n_threads"_a, "level"_a);
  m.def("fista_step_float", fista_step<float, &ShrinkKernels::fista_float>, "gradient"_a,
        "product"_a, "point"_a, "previous"_a, "step"_a, "momentum"_a, "lambda1"_a, "lambda2"_a,
        "next"_a, "extrapolated"_a, "sums"_a, "batch"_a, "m"_a, "d"_a, "n_threads"_a, "level"_a);
  m.def("fista_step_double", fista_step<double, &ShrinkKernels::fista_double>, "gradient"_a,
        "product"_a, "point"_a, "previous"_a, "step"_a, "momentum"_a, "lambda1"_a, "lambda2"_a,
        "next"_a, "extrapolated"_a, "sums"_a, "batch"_a, "m"_a, "d"_a, "n_threads"_a, "level"_a);

  m.def("prox_pass_float", prox_pass<float, &ProxKernels::pass_float>, "basis"_a, "basis_strides"_a,
        "gradient"_a, "gradient_stride"_a, "z"_a, "lambda1"_a, "batch"_a, "lambdas"_a, "r"_a, "d"_a,
        "w"_a, "sums"_a, "gram"_a, "n_threads"_a, "level"_a);
  m.def("prox_pass_double", prox_pass<double, &ProxKernels::pass_double>, "basis"_a,
        "basis_strides"_a, "gradient"_a, "gradient_stride"_a, "z"_a, "lambda1"_a, "batch"_a,
        "lambdas"_a, "r"_a, "d"_a, "w"_a, "sums"_a, "gram"_a, "n_threads"_a, "level"_a);
  m.def("gram_float", gram<float, &ProxKernels::gram_float>, "x"_a, "strides"_a, "batch"_a,
        "rows"_a, "d"_a, "gram"_a, "n_threads"_a, "level"_a);
  m.def("gram_double", gram<double, &ProxKernels::gram_double>, "x"_a, "strides"_a, "batch"_a,
        "rows"_a, "d"_a, "gram"_a, "n_threads"_a, "level"_a);

  m.def("grid_difference_float", grid<float, &GridKernels::difference_float>, "x"_a, "out"_a, "n"_a,
        "p1"_a, "p2"_a, "n_threads"_a, "level"_a);
  m.def("grid_difference_double", grid<double, &GridKernels::difference_double>, "x"_a, "out"_a,
        "n"_a, "p1"_a, "p2"_a, "n_threads"_a, "level"_a);
  m.def("grid_difference_adjoint_float", grid<float, &GridKernels::difference_adjoint_float>, "x"_a,
        "out"_a, "n"_a, "p1"_a, "p2"_a, "n_threads"_a, "level"_a);
  m.def("grid_difference_adjoint_double", grid<double, &GridKernels::difference_adjoint_double>,
        "x"_a, "out"_a, "n"_a, "p1"_a, "p2"_a, "n_threads"_a, "level"_a);
  m.def("grid_laplacian_float", grid<float, &GridKernels::laplacian_float>, "x"_a, "out"_a, "n"_a,
        "p1"_a, "p2"_a, "n_threads"_a, "level"_a);
  m.def("grid_laplacian_double", grid<double, &GridKernels::laplacian_double>, "x"_a, "out"_a,
        "n"_a, "p1"_a, "p2"_a, "n_threads"_a, "level"_a);
  m.def("grid_curl_float", grid<float, &GridKernels::curl_float>, "x"_a, "out"_a, "n"_a, "p1"_a,
        "p2"_a, "n_threads"_a, "level"_a);
  m.def("grid_curl_double", grid<double, &GridKernels::curl_double>, "x"_a, "out"_a, "n"_a, "p1"_a,
        "p2"_a, "n_threads"_a, "level"_a);
  m.def("grid_curl_adjoint_float", grid<float, &GridKernels::curl_adjoint_float>, "x"_a, "out"_a,
        "n"_a, "p1"_a, "p2"_a, "n_threads"_a, "level"_a);
  m.def("grid_curl_adjoint_double", grid<double, &GridKernels::curl_adjoint_double>, "x"_a, "out"_a,
        "n"_a, "p1"_a, "p2"_a, "n_threads"_a, "level"_a);

  m.def("grid_normal_float", grid_normal<float, &GridNoiseKernels::normal_float>, "out"_a, "n"_a,
        "p1"_a, "p2"_a, "seed"_a, "first_sample"_a, "stream"_a, "n_threads"_a, "level"_a);
  m.def("grid_normal_double", grid_normal<double, &GridNoiseKernels::normal_double>, "out"_a, "n"_a,
        "p1"_a, "p2"_a, "seed"_a, "first_sample"_a, "stream"_a, "n_threads"_a, "level"_a);

  m.def("edge_prox_float", edge_prox<float, &EdgesKernels::prox_float>, "z"_a, "centre"_a,
        "radius"_a, "threshold"_a, "out"_a, "rows"_a, "m"_a, "n_threads"_a, "level"_a);
  m.def("edge_prox_double", edge_prox<double, &EdgesKernels::prox_double>, "z"_a, "centre"_a,
        "radius"_a, "threshold"_a, "out"_a, "rows"_a, "m"_a, "n_threads"_a, "level"_a);
  m.def("edge_divergence_float", edge_divergence<float, &EdgesKernels::divergence_float>, "z"_a,
        "centre"_a, "radius"_a, "threshold"_a, "out"_a, "rows"_a, "p1"_a, "p2"_a, "n_threads"_a,
        "level"_a);
  m.def("edge_divergence_double", edge_divergence<double, &EdgesKernels::divergence_double>, "z"_a,
        "centre"_a, "radius"_a, "threshold"_a, "out"_a, "rows"_a, "p1"_a, "p2"_a, "n_threads"_a,
        "level"_a);
  m.def("edge_update_float", edge_update<float, &EdgesKernels::update_float>, "z"_a, "anchor"_a,
        "centre"_a, "potential"_a, "radius"_a, "threshold"_a, "weight"_a, "next"_a, "residual"_a,
        "rows"_a, "p1"_a, "p2"_a, "n_threads"_a, "level"_a);
  m.def("edge_update_double", edge_update<double, &EdgesKernels::update_double>, "z"_a, "anchor"_a,
        "centre"_a, "potential"_a, "radius"_a, "threshold"_a, "weight"_a, "next"_a, "residual"_a,
        "rows"_a, "p1"_a, "p2"_a, "n_threads"_a, "level"_a);

  m.def("perturbation_dots_float", perturbation_dots<float, &InfidelityKernels::dots_float>,
        "perturbations"_a, "perturbations_strides"_a, "attributions"_a, "batch"_a, "n"_a,
        "explanations"_a, "d"_a, "dots"_a, "n_threads"_a, "level"_a);
  m.def("perturbation_dots_double", perturbation_dots<double, &InfidelityKernels::dots_double>,
        "perturbations"_a, "perturbations_strides"_a, "attributions"_a, "batch"_a, "n"_a,
        "explanations"_a, "d"_a, "dots"_a, "n_threads"_a, "level"_a);
  m.def("perturbation_gradient_float",
        perturbation_gradient<float, &InfidelityKernels::gradient_float>, "perturbations"_a,
        "perturbations_strides"_a, "attributions"_a, "differences"_a, "weights"_a, "batch"_a, "n"_a,
        "explanations"_a, "d"_a, "gradient"_a, "loss"_a, "n_threads"_a, "level"_a);
  m.def("perturbation_gradient_double",
        perturbation_gradient<double, &InfidelityKernels::gradient_double>, "perturbations"_a,
        "perturbations_strides"_a, "attributions"_a, "differences"_a, "weights"_a, "batch"_a, "n"_a,
        "explanations"_a, "d"_a, "gradient"_a, "loss"_a, "n_threads"_a, "level"_a);

  m.def("tv_flow", tv_flow, "estimate"_a, "radius"_a, "batch"_a, "values"_a, "p1"_a, "p2"_a,
        "solution"_a, "potential"_a, "pivots"_a, "n_threads"_a, "level"_a);

  m.def("box_sums_float", boxes<float, &BoxesKernels::sums_float>, "x"_a, "out"_a, "n"_a, "p1"_a,
        "p2"_a, "sides"_a, "n_threads"_a, "level"_a);
  m.def("box_sums_double", boxes<double, &BoxesKernels::sums_double>, "x"_a, "out"_a, "n"_a, "p1"_a,
        "p2"_a, "sides"_a, "n_threads"_a, "level"_a);
  m.def("box_sums_adjoint_float", boxes<float, &BoxesKernels::adjoint_float>, "x"_a, "out"_a, "n"_a,
        "p1"_a, "p2"_a, "sides"_a, "n_threads"_a, "level"_a);
  m.def("box_sums_adjoint_double", boxes<double, &BoxesKernels::adjoint_double>, "x"_a, "out"_a,
        "n"_a, "p1"_a, "p2"_a, "sides"_a, "n_threads"_a, "level"_a);
}
