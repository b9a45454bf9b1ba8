"""CPU kernels on raw addresses; `hessx.ops` is the public face.

Addresses are those of `Tensor.data_ptr()`, strides count elements, `level` is one of `levels()`.
"""

from collections.abc import Sequence

def levels() -> list[str]: ...
def all_levels() -> list[str]: ...
def uniform_float(
    out: int,
    shape: Sequence[int],
    strides: Sequence[int],
    seed: int,
    first_sample: int,
    stream: int,
    first_block: int,
    n_threads: int,
    level: str,
) -> None: ...
def uniform_double(
    out: int,
    shape: Sequence[int],
    strides: Sequence[int],
    seed: int,
    first_sample: int,
    stream: int,
    first_block: int,
    n_threads: int,
    level: str,
) -> None: ...
def normal_float(
    out: int,
    shape: Sequence[int],
    strides: Sequence[int],
    seed: int,
    first_sample: int,
    stream: int,
    first_block: int,
    n_threads: int,
    level: str,
) -> None: ...
def normal_double(
    out: int,
    shape: Sequence[int],
    strides: Sequence[int],
    seed: int,
    first_sample: int,
    stream: int,
    first_block: int,
    n_threads: int,
    level: str,
) -> None: ...
def sums_float(
    x: int,
    x_strides: Sequence[int],
    weight: int,
    weight_strides: Sequence[int],
    squares: bool,
    batch: int,
    n: int,
    k: int,
    out: int,
    n_threads: int,
    level: str,
) -> None: ...
def sums_double(
    x: int,
    x_strides: Sequence[int],
    weight: int,
    weight_strides: Sequence[int],
    squares: bool,
    batch: int,
    n: int,
    k: int,
    out: int,
    n_threads: int,
    level: str,
) -> None: ...
def cross_moments_float(
    u: int,
    u_strides: Sequence[int],
    v: int,
    v_strides: Sequence[int],
    weight: int,
    weight_strides: Sequence[int],
    batch: int,
    n: int,
    k: int,
    l: int,
    uv: int,
    n_threads: int,
    level: str,
) -> None: ...
def cross_moments_double(
    u: int,
    u_strides: Sequence[int],
    v: int,
    v_strides: Sequence[int],
    weight: int,
    weight_strides: Sequence[int],
    batch: int,
    n: int,
    k: int,
    l: int,
    uv: int,
    n_threads: int,
    level: str,
) -> None: ...
def core_moments_float(
    u: int,
    u_strides: Sequence[int],
    w: int,
    w_strides: Sequence[int],
    batch: int,
    n: int,
    k: int,
    uw: int,
    u2w2: int,
    cross: int,
    n_threads: int,
    level: str,
) -> None: ...
def core_moments_double(
    u: int,
    u_strides: Sequence[int],
    w: int,
    w_strides: Sequence[int],
    batch: int,
    n: int,
    k: int,
    uw: int,
    u2w2: int,
    cross: int,
    n_threads: int,
    level: str,
) -> None: ...
def eigh_float(
    a: int,
    strides: Sequence[int],
    batch: int,
    k: int,
    values: int,
    vectors: int,
    n_threads: int,
    level: str,
) -> None: ...
def eigh_double(
    a: int,
    strides: Sequence[int],
    batch: int,
    k: int,
    values: int,
    vectors: int,
    n_threads: int,
    level: str,
) -> None: ...
def trust_region_float(
    eigenvalues: int,
    eigenvalues_strides: Sequence[int],
    gradient: int,
    gradient_strides: Sequence[int],
    radius: int,
    radius_stride: int,
    batch: int,
    k: int,
    step: int,
    multiplier: int,
    n_threads: int,
    level: str,
) -> None: ...
def trust_region_double(
    eigenvalues: int,
    eigenvalues_strides: Sequence[int],
    gradient: int,
    gradient_strides: Sequence[int],
    radius: int,
    radius_stride: int,
    batch: int,
    k: int,
    step: int,
    multiplier: int,
    n_threads: int,
    level: str,
) -> None: ...
def softmax_product_float(
    probabilities: int,
    vectors: int,
    out: int,
    batch: int,
    m: int,
    classes: int,
    n_threads: int,
    level: str,
) -> None: ...
def softmax_product_double(
    probabilities: int,
    vectors: int,
    out: int,
    batch: int,
    m: int,
    classes: int,
    n_threads: int,
    level: str,
) -> None: ...
def soft_threshold_float(
    x: int,
    threshold: int,
    out: int,
    rows: int,
    d: int,
    n_threads: int,
    level: str,
) -> None: ...
def soft_threshold_double(
    x: int,
    threshold: int,
    out: int,
    rows: int,
    d: int,
    n_threads: int,
    level: str,
) -> None: ...
def fista_step_float(
    gradient: int,
    product: int,
    point: int,
    previous: int,
    step: int,
    momentum: int,
    lambda1: int,
    lambda2: int,
    next: int,
    extrapolated: int,
    sums: int,
    batch: int,
    m: int,
    d: int,
    n_threads: int,
    level: str,
) -> None: ...
def fista_step_double(
    gradient: int,
    product: int,
    point: int,
    previous: int,
    step: int,
    momentum: int,
    lambda1: int,
    lambda2: int,
    next: int,
    extrapolated: int,
    sums: int,
    batch: int,
    m: int,
    d: int,
    n_threads: int,
    level: str,
) -> None: ...
def prox_pass_float(
    basis: int,
    basis_strides: Sequence[int],
    gradient: int,
    gradient_stride: int,
    z: int,
    lambda1: int,
    batch: int,
    lambdas: int,
    r: int,
    d: int,
    w: int,
    sums: int,
    gram: int,
    n_threads: int,
    level: str,
) -> None: ...
def prox_pass_double(
    basis: int,
    basis_strides: Sequence[int],
    gradient: int,
    gradient_stride: int,
    z: int,
    lambda1: int,
    batch: int,
    lambdas: int,
    r: int,
    d: int,
    w: int,
    sums: int,
    gram: int,
    n_threads: int,
    level: str,
) -> None: ...
def gram_float(
    x: int,
    strides: Sequence[int],
    batch: int,
    rows: int,
    d: int,
    gram: int,
    n_threads: int,
    level: str,
) -> None: ...
def gram_double(
    x: int,
    strides: Sequence[int],
    batch: int,
    rows: int,
    d: int,
    gram: int,
    n_threads: int,
    level: str,
) -> None: ...
def grid_difference_float(
    x: int, out: int, n: int, p1: int, p2: int, n_threads: int, level: str
) -> None: ...
def grid_difference_double(
    x: int, out: int, n: int, p1: int, p2: int, n_threads: int, level: str
) -> None: ...
def grid_difference_adjoint_float(
    x: int, out: int, n: int, p1: int, p2: int, n_threads: int, level: str
) -> None: ...
def grid_difference_adjoint_double(
    x: int, out: int, n: int, p1: int, p2: int, n_threads: int, level: str
) -> None: ...
def grid_laplacian_float(
    x: int, out: int, n: int, p1: int, p2: int, n_threads: int, level: str
) -> None: ...
def grid_laplacian_double(
    x: int, out: int, n: int, p1: int, p2: int, n_threads: int, level: str
) -> None: ...
def grid_curl_float(
    x: int, out: int, n: int, p1: int, p2: int, n_threads: int, level: str
) -> None: ...
def grid_curl_double(
    x: int, out: int, n: int, p1: int, p2: int, n_threads: int, level: str
) -> None: ...
def grid_curl_adjoint_float(
    x: int, out: int, n: int, p1: int, p2: int, n_threads: int, level: str
) -> None: ...
def grid_curl_adjoint_double(
    x: int, out: int, n: int, p1: int, p2: int, n_threads: int, level: str
) -> None: ...
def grid_normal_float(
    out: int,
    n: int,
    p1: int,
    p2: int,
    seed: int,
    first_sample: int,
    stream: int,
    n_threads: int,
    level: str,
) -> None: ...
def grid_normal_double(
    out: int,
    n: int,
    p1: int,
    p2: int,
    seed: int,
    first_sample: int,
    stream: int,
    n_threads: int,
    level: str,
) -> None: ...
def edge_prox_float(
    z: int,
    centre: int,
    radius: int,
    threshold: int,
    out: int,
    rows: int,
    m: int,
    n_threads: int,
    level: str,
) -> None: ...
def edge_prox_double(
    z: int,
    centre: int,
    radius: int,
    threshold: int,
    out: int,
    rows: int,
    m: int,
    n_threads: int,
    level: str,
) -> None: ...
def edge_divergence_float(
    z: int,
    centre: int,
    radius: int,
    threshold: int,
    out: int,
    rows: int,
    p1: int,
    p2: int,
    n_threads: int,
    level: str,
) -> None: ...
def edge_divergence_double(
    z: int,
    centre: int,
    radius: int,
    threshold: int,
    out: int,
    rows: int,
    p1: int,
    p2: int,
    n_threads: int,
    level: str,
) -> None: ...
def edge_update_float(
    z: int,
    anchor: int,
    centre: int,
    potential: int,
    radius: int,
    threshold: int,
    weight: int,
    next: int,
    residual: int,
    rows: int,
    p1: int,
    p2: int,
    n_threads: int,
    level: str,
) -> None: ...
def edge_update_double(
    z: int,
    anchor: int,
    centre: int,
    potential: int,
    radius: int,
    threshold: int,
    weight: int,
    next: int,
    residual: int,
    rows: int,
    p1: int,
    p2: int,
    n_threads: int,
    level: str,
) -> None: ...
def perturbation_dots_float(
    perturbations: int,
    perturbations_strides: Sequence[int],
    attributions: int,
    batch: int,
    n: int,
    explanations: int,
    d: int,
    dots: int,
    n_threads: int,
    level: str,
) -> None: ...
def perturbation_dots_double(
    perturbations: int,
    perturbations_strides: Sequence[int],
    attributions: int,
    batch: int,
    n: int,
    explanations: int,
    d: int,
    dots: int,
    n_threads: int,
    level: str,
) -> None: ...
def perturbation_gradient_float(
    perturbations: int,
    perturbations_strides: Sequence[int],
    attributions: int,
    differences: int,
    weights: int,
    batch: int,
    n: int,
    explanations: int,
    d: int,
    gradient: int,
    loss: int,
    n_threads: int,
    level: str,
) -> None: ...
def perturbation_gradient_double(
    perturbations: int,
    perturbations_strides: Sequence[int],
    attributions: int,
    differences: int,
    weights: int,
    batch: int,
    n: int,
    explanations: int,
    d: int,
    gradient: int,
    loss: int,
    n_threads: int,
    level: str,
) -> None: ...
def tv_flow(
    estimate: int,
    radius: int,
    batch: int,
    values: int,
    p1: int,
    p2: int,
    solution: int,
    potential: int,
    pivots: int,
    n_threads: int,
    level: str,
) -> None: ...
def box_sums_float(
    x: int,
    out: int,
    n: int,
    p1: int,
    p2: int,
    sides: Sequence[int],
    n_threads: int,
    level: str,
) -> None: ...
def box_sums_double(
    x: int,
    out: int,
    n: int,
    p1: int,
    p2: int,
    sides: Sequence[int],
    n_threads: int,
    level: str,
) -> None: ...
def box_sums_adjoint_float(
    x: int,
    out: int,
    n: int,
    p1: int,
    p2: int,
    sides: Sequence[int],
    n_threads: int,
    level: str,
) -> None: ...
def box_sums_adjoint_double(
    x: int,
    out: int,
    n: int,
    p1: int,
    p2: int,
    sides: Sequence[int],
    n_threads: int,
    level: str,
) -> None: ...
