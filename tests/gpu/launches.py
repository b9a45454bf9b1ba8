"""Launches that stand for every kernel: each tile, type and layout, by the project's own code.

No launch computes anything here: Triton's are compiled and CUDA's are written down. Sizes are those
of real explanations, so that bytes and operations say something; memory that nobody touches costs
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from hessx.ops.boxes import triton as boxes
from hessx.ops.boxes.rules import box_count
from hessx.ops.edges import triton as edges
from hessx.ops.eigh import cuda as eigh
from hessx.ops.grid import triton as grid
from hessx.ops.grid_noise import triton as grid_noise
from hessx.ops.moments import triton as moments
from hessx.ops.noise import triton as noise
from hessx.ops.prox import triton as prox
from hessx.ops.shrink import triton as shrink
from hessx.ops.softmax import triton as softmax
from hessx.ops.trust_region import cuda as trust_region
from tests.gpu.compiled.roofline import Work

FLOAT32, FLOAT64 = torch.float32, torch.float64
BFLOAT16, FLOAT16 = torch.bfloat16, torch.float16

# Operations of one number at the least, from the formulas. Philox: 20 products of 32 bits and 20
# three-way xors serve four numbers. Box and Muller: multiply-adds of the angle's polynomials and
# the products around them; logarithm and root are taken for one each.
_PHILOX = (20 * 2 + 20) / 4
_NORMAL = {"float32": 2 * 8, "float64": 2 * 13}


@dataclass(frozen=True)
class Launch:
    """A named call of the project's launch code.

    Attributes:
        run: Makes the call.
        work: What it must do at least.
        contiguous: Rows lie side by side and are aligned, and the kernel is told so by its
            specialisation: a thread can move 128 bits. A CUDA kernel with strides is not.
        tensor_cores: Type of the factors that a dot product is meant to give them.
    """

    run: Callable[[], object]
    work: Work
    contiguous: bool = True
    tensor_cores: torch.dtype | None = None


def _working(dtype: torch.dtype) -> str:
    return "float64" if dtype == FLOAT64 else "float32"


def _bytes(*tensors: torch.Tensor | None) -> int:
    return sum(x.numel() * x.element_size() for x in tensors if x is not None)


def _draws(numbers: int, dtype: torch.dtype, *, normal: bool = True) -> dict[str, float]:
    real = _working(dtype)
    return {"int32": _PHILOX * numbers, real: (_NORMAL[real] if normal else 2) * numbers}


def _noise(law: str, dtype: torch.dtype, columns: int = 784, *, transposed: bool = False) -> Launch:
    shape = (columns, 4096) if transposed else (4096, columns)
    out = torch.empty(shape, dtype=dtype)
    out = out.mT if transposed else out
    return Launch(
        run=lambda: getattr(noise, law)(out, 1, 2, 3),
        work=Work(_bytes(out), _draws(out.numel(), dtype, normal=law == "normal")),
        contiguous=not transposed and columns % 8 == 0,
    )


def _samples(
    batch: int, n: int, k: int, dtype: torch.dtype, *, transposed: bool = False
) -> torch.Tensor:
    if transposed:
        return torch.empty(batch, k, n, dtype=dtype).mT
    return torch.empty(batch, n, k, dtype=dtype)


def _product_unit(dtype: torch.dtype, *, weighted: bool) -> str:
    """Where a product runs: factors of two bytes are exact as they are unless weighted."""
    if dtype == FLOAT64:
        return "float64 tensor"
    return "float32" if weighted or dtype == FLOAT32 else "half tensor"


def _cross(
    k: int,
    dtype: torch.dtype,
    *,
    batch: int = 256,
    weighted: bool = False,
    transposed: bool = False,
    drawn: bool = False,
    shared_dtype: torch.dtype | None = None,
) -> Launch:
    """Moments of samples shared by the batch, or drawn in the kernel, with gradients of each."""
    n = 1024
    u = _samples(1, n, k, shared_dtype or dtype, transposed=transposed)
    v = _samples(batch, n, k, dtype, transposed=transposed)
    weight = torch.empty(n, dtype=dtype) if weighted else None
    outputs = 8 * (k + batch * k + batch * k * k)
    # Types that differ meet in float32, as weighted factors do.
    unit = _product_unit(dtype, weighted=weighted or shared_dtype is not None)
    operations = {unit: 2.0 * batch * n * k * k}
    if drawn:
        for drawing, count in _draws(n * k, dtype).items():
            operations[drawing] = operations.get(drawing, 0) + count
    return Launch(
        run=(lambda: moments.normal_moments(v, weight, k, 1, 2, 3))
        if drawn
        else (lambda: moments.cross_moments(u, v, weight)),
        work=Work(_bytes(v, weight, None if drawn else u) + outputs, operations),
        contiguous=not transposed and k % 16 == 0,
        tensor_cores=dtype if unit.endswith("tensor") else None,
    )


def _core(k: int, dtype: torch.dtype, *, batch: int = 256) -> Launch:
    n = 1024
    u, w = (_samples(batch, n, k, dtype) for _ in range(2))
    # Two products, and a symmetric one of which half is enough.
    multiply_adds = batch * n * (2 * k * k + k * (k + 1) / 2)
    outputs = 8 * batch * (3 * k * k + k)
    # Squares of the samples have to be rounded before tensor cores could take them.
    unit = "float64 tensor" if dtype == FLOAT64 else "float32"
    return Launch(
        run=lambda: moments.core_moments(u, w),
        work=Work(_bytes(u, w) + outputs, {unit: 2 * multiply_adds}),
        contiguous=k % 16 == 0,
        tensor_cores=FLOAT64 if dtype == FLOAT64 else None,
    )


def _eigh(k: int, dtype: torch.dtype, *, batch: int = 16384) -> Launch:
    a = torch.empty(batch, k, k, dtype=dtype)
    n = k + k % 2
    # A sweep is n - 1 steps; each turns n / 2 pairs of rows of the vectors, and the blocks that
    # two pairs meet in, on both sides. A rotation of two numbers is 6 operations. Random matrices
    # take 5 sweeps at the least.
    rotations = (n // 2) * k + 4 * (n // 2) * (n // 2 - 1) / 2
    read = k * (k + 1) // 2 * a.element_size() * batch
    written = (k + k * k) * a.element_size() * batch
    return Launch(
        run=lambda: eigh.eigh(a),
        work=Work(read + written, {_working(dtype): 5 * 6 * (n - 1) * rotations * batch}),
        contiguous=True,
    )


def _trust_region(k: int, dtype: torch.dtype, *, batch: int = 16384) -> Launch:
    eigenvalues, gradient = (torch.empty(batch, k, dtype=dtype) for _ in range(2))
    radius = torch.empty(batch, dtype=dtype)
    # The length of the step at one shift takes a quotient and a square of each coordinate; random
    # problems need two evaluations at the least.
    operations = {_working(dtype): 2 * 3.0 * batch * k}
    outputs = _bytes(gradient, radius)
    return Launch(
        run=lambda: trust_region.trust_region(eigenvalues, gradient, radius),
        work=Work(_bytes(eigenvalues, gradient, radius) + outputs, operations),
        contiguous=True,
    )


def _softmax_product(classes: int, dtype: torch.dtype, *, batch: int = 256) -> Launch:
    m = 16
    probabilities = torch.empty(batch, classes, dtype=dtype)
    vectors = torch.empty(batch, m, classes, dtype=dtype)
    # A difference, and a multiply-add of the mean; two differences and a product of the result.
    return Launch(
        run=lambda: softmax.softmax_product(probabilities, vectors),
        work=Work(_bytes(probabilities, vectors, vectors), {"float64": 6 * vectors.numel()}),
        contiguous=classes % 16 == 0,
    )


def _soft_threshold(d: int, dtype: torch.dtype, *, rows: int = 256) -> Launch:
    x, threshold = torch.empty(rows, d, dtype=dtype), torch.empty(rows, dtype=dtype)
    return Launch(
        run=lambda: shrink.soft_threshold(x, threshold),
        work=Work(_bytes(x, threshold, x), {_working(dtype): 3 * x.numel()}),
        contiguous=d % 16 == 0,
    )


def _fista(d: int, dtype: torch.dtype, *, batch: int = 8, m: int = 1) -> Launch:
    gradient, vector = torch.empty(batch, d, dtype=dtype), torch.empty(batch, m, d, dtype=dtype)
    number, sums = torch.empty(batch, m, dtype=dtype), torch.empty(batch, m, 5, dtype=FLOAT64)
    # 5 of the ascent and the step, 3 of the threshold, 3 of the extrapolation, 8 of the sums.
    return Launch(
        run=lambda: shrink.fista_step(gradient, *3 * [vector], *4 * [number], *2 * [vector], sums),
        work=Work(
            _bytes(gradient, *5 * [vector], *4 * [number], sums),
            {_working(dtype): 19 * vector.numel()},
        ),
        contiguous=d % 16 == 0,
    )


def _edge_count(p1: int, p2: int) -> int:
    return 2 * p1 * p2 - p1 - p2


def _grid_normal(
    p1: int, p2: int, dtype: torch.dtype, *, n: int = 1024, transposed: bool = False
) -> Launch:
    shape = (n, p2, p1) if transposed else (n, p1, p2)
    out = torch.empty(shape, dtype=dtype)
    out = out.mT if transposed else out
    operations = _draws(n * (_edge_count(p1, p2) + 1), dtype)
    # Four sums of a pixel.
    operations[_working(dtype)] += 4 * out.numel()
    return Launch(
        run=lambda: grid_noise.grid_normal(out, 1, 2, 3),
        work=Work(_bytes(out), operations),
        contiguous=not transposed and p2 % 16 == 0,
    )


@dataclass(frozen=True)
class _Edges:
    """Arguments of the edges ops, for a batch of pictures."""

    p1: int
    p2: int
    dtype: torch.dtype
    rows: int

    def edges(self) -> torch.Tensor:
        return torch.empty(self.rows, _edge_count(self.p1, self.p2), dtype=self.dtype)

    def pictures(self) -> torch.Tensor:
        return torch.empty(self.rows, self.p1, self.p2, dtype=self.dtype)

    def number(self) -> torch.Tensor:
        return torch.empty(self.rows, dtype=self.dtype)


def _edge_prox(p1: int, p2: int, dtype: torch.dtype, *, rows: int = 8) -> Launch:
    like = _Edges(p1, p2, dtype, rows)
    z, number = like.edges(), like.number()
    # 3 of the threshold, 2 of the bounds, 3 comparisons.
    return Launch(
        run=lambda: edges.edge_prox(z, z, number, number),
        work=Work(_bytes(z, z, z, number, number), {_working(dtype): 8 * z.numel()}),
        contiguous=z.shape[1] % 16 == 0,
    )


def _edge_divergence(p1: int, p2: int, dtype: torch.dtype, *, rows: int = 8) -> Launch:
    like = _Edges(p1, p2, dtype, rows)
    z, number, out = like.edges(), like.number(), like.pictures()
    operations = 10 * z.numel() + 3 * out.numel()
    # Rows of horizontal edges have one less than those of pixels: they begin anywhere.
    return Launch(
        run=lambda: edges.edge_divergence(z, z, number, number, out),
        work=Work(_bytes(z, z, number, number, out), {_working(dtype): operations}),
        contiguous=False,
    )


def _edge_update(p1: int, p2: int, dtype: torch.dtype, *, rows: int = 8) -> Launch:
    like = _Edges(p1, p2, dtype, rows)
    z, number, potential = like.edges(), like.number(), like.pictures()
    residual = torch.empty(rows, dtype=FLOAT64)
    # 10 of the step, 5 of the next point; a square and its sum in float64.
    operations = {_working(dtype): 15.0 * z.numel()}
    operations["float64"] = operations.get("float64", 0) + 2 * z.numel()
    return Launch(
        run=lambda: edges.edge_update(z, z, z, potential, *3 * [number], z, residual),
        work=Work(_bytes(*4 * [z], potential, *3 * [number], residual), operations),
        contiguous=False,
    )


# Numbers of a photograph.
_PIXELS = 3 * 224 * 224


def _prox(
    r: int, dtype: torch.dtype, *, d: int = _PIXELS, lambdas: int = 8, transposed: bool = False
) -> Launch:
    """A pass without the Gram matrices."""
    basis = (
        torch.empty(1, d, r, dtype=dtype).mT if transposed else torch.empty(1, r, d, dtype=dtype)
    )
    gradient, z = torch.empty(1, d, dtype=dtype), torch.empty(1, lambdas, r, dtype=dtype)
    lambda1 = torch.empty(1, lambdas, dtype=dtype)
    outputs = 8 * lambdas * (r + 4)
    # Two products with the basis; threshold, sums and count take about ten operations an entry.
    operations = {_working(dtype): lambdas * d * (4.0 * r + 10)}
    return Launch(
        run=lambda: prox.prox_pass(basis, gradient, z, lambda1, False),
        work=Work(_bytes(basis, gradient, z, lambda1) + outputs, operations),
        contiguous=not transposed and d % 16 == 0 and r % 16 == 0,
    )


def _gram(
    c: int,
    dtype: torch.dtype,
    *,
    d: int = _PIXELS,
    lambdas: int | None = None,
    transposed: bool = False,
) -> Launch:
    """Gram matrices of rows, or of the active columns of several lambdas, half of them."""
    x = torch.empty(1, d, c, dtype=dtype).mT if transposed else torch.empty(1, c, d, dtype=dtype)
    count = lambdas or 1
    point = None if lambdas is None else torch.empty(1, lambdas, d, dtype=dtype)
    out = torch.empty(1, count, c, c, dtype=FLOAT64)
    products = count * d * c * (c + 1) / 2 * (1 if lambdas is None else 0.5)
    unit = "float64 tensor" if dtype == FLOAT64 else "float32"
    return Launch(
        run=lambda: prox.write_grams(x, point, out),
        work=Work(_bytes(x, point, out), {unit: 2 * products}),
        contiguous=not transposed and d % 16 == 0,
        tensor_cores=FLOAT64 if dtype == FLOAT64 else None,
    )


def _grid(op: str, p1: int, p2: int, dtype: torch.dtype, *, n: int = 256) -> Launch:
    """Rows of edges or faces have an odd length where those of pixels do not, and no alignment."""
    shapes = {
        "pixels": (n, p1, p2),
        "edges": (n, 2 * p1 * p2 - p1 - p2),
        "faces": (n, p1 - 1, p2 - 1),
    }
    source, target, additions = {
        "difference": ("pixels", "edges", 1),
        "difference_adjoint": ("edges", "pixels", 3),
        "laplacian": ("pixels", "pixels", 7),
        "curl": ("edges", "faces", 3),
        "curl_adjoint": ("faces", "edges", 1),
    }[op]
    x = torch.empty(shapes[source], dtype=dtype)
    size = (p1, p2) if source == "edges" else ()
    result = torch.empty(shapes[target], dtype=dtype)
    return Launch(
        run=lambda: getattr(grid, f"grid_{op}")(x, *size),
        work=Work(_bytes(x, result), {_working(dtype): additions * result.numel()}),
        contiguous=False,
    )


def _boxes(op: str, p: int, dtype: torch.dtype, *, n: int = 256) -> Launch:
    """Squares of one side; windows begin anywhere."""
    side = 10
    picture = torch.empty(n, p, p, dtype=dtype)
    sums = torch.empty(n, box_count(p, p, [side]), dtype=dtype)
    # A ladder of sums along each axis; the adjoint adds up the sides.
    operations = {"float64": 8.0 * sums.numel() + (picture.numel() if op == "adjoint" else 0)}
    return Launch(
        run=(lambda: boxes.box_sums(picture, [side]))
        if op == "sums"
        else (lambda: boxes.box_sums_adjoint(sums, [side], p, p)),
        work=Work(_bytes(picture, sums), operations),
        contiguous=False,
    )


# Every kernel, tile, type and layout; `EVERYDAY` are those that each run of the tests compiles.
TRITON = {
    "uniform-float32": _noise("uniform", FLOAT32),
    "uniform-bfloat16": _noise("uniform", BFLOAT16),
    "normal-float32": _noise("normal", FLOAT32),
    "normal-float32-49": _noise("normal", FLOAT32, 49),
    "normal-float32-transposed": _noise("normal", FLOAT32, transposed=True),
    "normal-float64": _noise("normal", FLOAT64),
    "normal-bfloat16": _noise("normal", BFLOAT16),
    "normal-float16": _noise("normal", FLOAT16),
    "cross-9-float32-weighted": _cross(9, FLOAT32, weighted=True),
    "cross-9-float64": _cross(9, FLOAT64),
    "cross-9-bfloat16": _cross(9, BFLOAT16),
    "cross-9-bfloat16-weighted": _cross(9, BFLOAT16, weighted=True),
    "cross-16-float32": _cross(16, FLOAT32),
    "cross-256-float32": _cross(256, FLOAT32, batch=1),
    "cross-256-float32-transposed": _cross(256, FLOAT32, batch=8, transposed=True),
    "cross-256-float64": _cross(256, FLOAT64, batch=8),
    "cross-256-float64-weighted": _cross(256, FLOAT64, batch=8, weighted=True),
    "cross-256-bfloat16": _cross(256, BFLOAT16, batch=8),
    "cross-784-float32": _cross(784, FLOAT32, batch=8),
    "cross-785-float32-weighted": _cross(785, FLOAT32, batch=8, weighted=True),
    "cross-784-bfloat16": _cross(784, BFLOAT16, batch=8),
    "cross-784-bfloat16-weighted": _cross(784, BFLOAT16, batch=8, weighted=True),
    "cross-784-float16": _cross(784, FLOAT16, batch=8),
    "cross-784-float32-bfloat16": _cross(784, BFLOAT16, batch=8, shared_dtype=FLOAT32),
    "drawn-9-float32": _cross(9, FLOAT32, drawn=True),
    "drawn-256-float32-weighted": _cross(256, FLOAT32, batch=8, drawn=True, weighted=True),
    "drawn-256-float64": _cross(256, FLOAT64, batch=8, drawn=True),
    "drawn-784-float32": _cross(784, FLOAT32, batch=8, drawn=True),
    "drawn-784-bfloat16": _cross(784, BFLOAT16, batch=8, drawn=True),
    "drawn-785-float16": _cross(785, FLOAT16, batch=8, drawn=True),
    "core-9-float64": _core(9, FLOAT64),
    "core-49-float32": _core(49, FLOAT32, batch=1),
    "core-256-float32": _core(256, FLOAT32, batch=8),
    "core-256-float64": _core(256, FLOAT64, batch=8),
    "core-256-bfloat16": _core(256, BFLOAT16, batch=8),
    "softmax-10-float32": _softmax_product(10, FLOAT32),
    "softmax-1000-float32": _softmax_product(1000, FLOAT32),
    "softmax-1024-float32": _softmax_product(1024, FLOAT32),
    "softmax-1024-float64": _softmax_product(1024, FLOAT64),
    "threshold-784-float32": _soft_threshold(784, FLOAT32),
    "threshold-150528-float32": _soft_threshold(150528, FLOAT32, rows=8),
    "threshold-150528-float64": _soft_threshold(150528, FLOAT64, rows=8),
    "threshold-785-float32": _soft_threshold(785, FLOAT32),
    "fista-784-float32": _fista(784, FLOAT32, batch=256),
    "fista-785-float32": _fista(785, FLOAT32, batch=256),
    "fista-150528-float32": _fista(150528, FLOAT32),
    "fista-150528-float32-8": _fista(150528, FLOAT32, m=8),
    "fista-150528-float64": _fista(150528, FLOAT64),
    "prox-32-float32": _prox(32, FLOAT32),
    "prox-10-float32-one": _prox(10, FLOAT32, lambdas=1),
    "prox-32-float32-785": _prox(32, FLOAT32, d=785),
    "prox-32-float32-transposed": _prox(32, FLOAT32, transposed=True),
    "prox-32-float64": _prox(32, FLOAT64),
    "gram-10-float32": _gram(10, FLOAT32),
    "gram-100-float32": _gram(100, FLOAT32),
    "gram-100-float32-785": _gram(100, FLOAT32, d=785),
    "gram-100-float32-transposed": _gram(100, FLOAT32, transposed=True),
    "gram-100-float64": _gram(100, FLOAT64),
    "gram-10-float64": _gram(10, FLOAT64),
    "gram-1000-float32": _gram(1000, FLOAT32),
    "active-10-float32": _gram(10, FLOAT32, lambdas=8),
    "active-100-float32": _gram(100, FLOAT32, lambdas=8),
    "active-272-float32": _gram(272, FLOAT32, lambdas=8),
    "active-100-float64": _gram(100, FLOAT64, lambdas=8),
    "active-10-float64": _gram(10, FLOAT64, lambdas=8),
    **{
        f"grid-{op}-{p1}x{p2}-{str(dtype)[6:]}": _grid(op, p1, p2, dtype, n=n)
        for op in ("difference", "difference_adjoint", "laplacian", "curl", "curl_adjoint")
        for n, p1, p2, dtype in (
            (256, 28, 28, FLOAT32),
            (8, 224, 224, FLOAT32),
            (8, 224, 224, FLOAT64),
            (8, 1, 50000, FLOAT32),
        )
        if p1 > 1 or not op.startswith("curl")
    },
    **{
        f"boxes-{op}-{p}-{str(dtype)[6:]}": _boxes(op, p, dtype, n=n)
        for op in ("sums", "adjoint")
        for n, p, dtype in ((256, 28, FLOAT32), (8, 224, FLOAT32), (8, 224, FLOAT64))
    },
    "grid-normal-7-float32": _grid_normal(7, 7, FLOAT32),
    "grid-normal-28-float32": _grid_normal(28, 28, FLOAT32),
    "grid-normal-224-float32": _grid_normal(224, 224, FLOAT32, n=64),
    "grid-normal-224-float32-transposed": _grid_normal(224, 224, FLOAT32, n=64, transposed=True),
    "grid-normal-224-float64": _grid_normal(224, 224, FLOAT64, n=64),
    "grid-normal-224-bfloat16": _grid_normal(224, 224, BFLOAT16, n=64),
    "edge-prox-28-float32": _edge_prox(28, 28, FLOAT32, rows=256),
    "edge-prox-224-float32": _edge_prox(224, 224, FLOAT32),
    "edge-prox-224-float64": _edge_prox(224, 224, FLOAT64),
    "edge-divergence-28-float32": _edge_divergence(28, 28, FLOAT32, rows=256),
    "edge-divergence-224-float32": _edge_divergence(224, 224, FLOAT32),
    "edge-divergence-224-float64": _edge_divergence(224, 224, FLOAT64),
    "edge-update-28-float32": _edge_update(28, 28, FLOAT32, rows=256),
    "edge-update-224-float32": _edge_update(224, 224, FLOAT32),
    "edge-update-224-float64": _edge_update(224, 224, FLOAT64),
}
CUDA = {
    **{
        f"eigh-{k}-{dtype}": _eigh(k, getattr(torch, dtype))
        for k in (8, 32, 64)
        for dtype in ("float32", "float64")
    },
    "trust-region-64-float32": _trust_region(64, FLOAT32),
    "trust-region-64-float64": _trust_region(64, FLOAT64),
}
LAUNCHES = TRITON | CUDA
EVERYDAY = {
    "normal-float64",
    "normal-bfloat16",
    "cross-9-bfloat16-weighted",
    "cross-256-float32",
    "cross-256-float64",
    "cross-785-float32-weighted",
    "cross-784-bfloat16",
    "drawn-784-float32",
    "core-49-float32",
    "softmax-1000-float32",
    "fista-150528-float32",
    "prox-32-float32",
    "active-100-float32",
    "grid-laplacian-224x224-float32",
    "grid-normal-28-float32",
    "edge-update-224-float32",
    "boxes-adjoint-224-float32",
    *CUDA,
}
