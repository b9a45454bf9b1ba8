"""Triton kernels of the noise ops: Philox 4x32-10 words made uniform or normal numbers in place."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from hessx.ops.noise.rules import fill_fake

_INVERSE_2_32 = tl.constexpr(2.0**-32)
_INVERSE_2_33 = tl.constexpr(2.0**-33)
_INVERSE_2_24 = tl.constexpr(2.0**-24)
# One turn is 2^32 steps of the angle word.
_ANGLE_STEP = tl.constexpr(6.283185307179586 * 2.0**-32)


@triton.jit
def _sine_cosine(word, REAL: tl.constexpr):
    """Sine and cosine of 2 pi word / 2^32.

    The nearest quarter turn is split off in integers, which is exact; what is left lies within
    an eighth of a turn of zero, where short polynomials are good to the last bit. The device
    library's sine cannot know that its argument is small and carries a slow path that needs
    local memory.
    """
    quarter = (word + 0x20000000) >> 30
    angle = (word - (quarter << 30)).to(tl.int32, bitcast=True).to(REAL) * _ANGLE_STEP
    z = angle * angle
    if REAL.primitive_bitwidth == 64:
        # Taylor series: the first term left out is below 1e-19.
        s = z * (1 / 355687428096000) - 1 / 1307674368000
        s = s * z + 1 / 6227020800
        s = s * z - 1 / 39916800
        s = s * z + 1 / 362880
        s = s * z - 1 / 5040
        s = s * z + 1 / 120
        s = s * z - 1 / 6
        c = z * (1 / 20922789888000) - 1 / 87178291200
        c = c * z + 1 / 479001600
        c = c * z - 1 / 3628800
        c = c * z + 1 / 40320
        c = c * z - 1 / 720
        c = c * z + 1 / 24
    else:
        # Minimax fits on the eighth turn, relative errors 3.6e-9 and 1.2e-10.
        s = z * -1.9517299e-4 + 8.3321781e-3
        s = s * z - 1.6666655e-1
        c = z * 2.4433157e-5 - 1.3887316e-3
        c = c * z + 4.1666646e-2
    sine = angle + angle * z * s
    cosine = 1.0 - 0.5 * z + z * z * c
    swapped = (quarter & 1) != 0
    s = tl.where(swapped, cosine, sine)
    c = tl.where(swapped, sine, cosine)
    # Quarters 2, 3 turn the sine negative; 1, 2 the cosine.
    s = tl.where((quarter & 2) != 0, -s, s)
    c = tl.where(((quarter + 1) & 2) != 0, -c, c)
    return s, c


@triton.jit
def _box_muller(radius_word, angle_word, REAL: tl.constexpr):
    """Two independent standard normals of two words (Box and Muller, 1958)."""
    u = radius_word.to(REAL) * _INVERSE_2_32 + _INVERSE_2_33
    square = -2.0 * tl.log(u)
    radius = tl.sqrt(square) if REAL.primitive_bitwidth == 64 else tl.sqrt_rn(square)
    sine, cosine = _sine_cosine(angle_word, REAL)
    return radius * cosine, radius * sine


@triton.jit
def _uniform_of(word, REAL: tl.constexpr, BELOW_ONE: tl.constexpr):
    """A number in [0, 1): all 32 bits of the word in float64, 24 else."""
    if REAL.primitive_bitwidth == 64:
        value = word.to(REAL) * _INVERSE_2_32
    else:
        # To nearest, a half type would round up to 1.
        value = tl.minimum((word >> 8).to(REAL) * _INVERSE_2_24, BELOW_ONE)
    return value


@triton.jit
def drawn_tile(
    samples,
    first_column,
    seed,
    stream,
    NORMAL: tl.constexpr,
    REAL: tl.constexpr,
    BELOW_ONE: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Draw features first_column, ..., first_column + BLOCK_M - 1 of each of `samples` (int64).

    One Philox counter serves four features; first_column is a multiple of 4.
    """
    BLOCK_N: tl.constexpr = samples.shape[0]
    counters = first_column // 4 + tl.arange(0, BLOCK_M // 4)
    counters = tl.broadcast_to(counters[None, :], (BLOCK_N, BLOCK_M // 4))
    return drawn_counters(samples[:, None], counters, seed, stream, NORMAL, REAL, BELOW_ONE)


@triton.jit
def drawn_counters(
    samples,
    counters,
    seed,
    stream,
    NORMAL: tl.constexpr,
    REAL: tl.constexpr,
    BELOW_ONE: tl.constexpr,
):
    """Draw the four features of each of a matrix of counters, side by side in its rows."""
    x0, x1, x2, x3 = tl.philox(
        seed,
        counters.to(tl.uint32),
        tl.to_tensor(stream).to(tl.uint32),
        samples.to(tl.uint32),
        (samples >> 32).to(tl.uint32),
    )
    if NORMAL:
        y0, y1 = _box_muller(x0, x1, REAL)
        y2, y3 = _box_muller(x2, x3, REAL)
    else:
        y0, y1 = _uniform_of(x0, REAL, BELOW_ONE), _uniform_of(x1, REAL, BELOW_ONE)
        y2, y3 = _uniform_of(x2, REAL, BELOW_ONE), _uniform_of(x3, REAL, BELOW_ONE)
    # Innermost axes (pair, member): four neighbouring features stay in one thread, so that
    # contiguous rows are stored 128 bits at a time.
    joined = tl.join(tl.join(y0, y2), tl.join(y1, y3))
    return joined.reshape(counters.shape[0], 4 * counters.shape[1])


@triton.jit(do_not_specialize=["seed", "first_sample", "stream"])
def _noise_kernel(
    out,
    n,
    m,
    stride_n,
    stride_m,
    seed: tl.int64,
    first_sample: tl.int64,
    stream: tl.int64,
    NORMAL: tl.constexpr,
    REAL: tl.constexpr,
    BELOW_ONE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Fills one tile of samples and features."""
    pid = tl.program_id(0).to(tl.int64)
    tiles_m = tl.cdiv(m, BLOCK_M)
    rows = (pid // tiles_m) * BLOCK_N + tl.arange(0, BLOCK_N)
    first_column = (pid % tiles_m) * BLOCK_M
    columns = first_column + tl.arange(0, BLOCK_M)
    values = drawn_tile(
        rows + first_sample, first_column, seed, stream, NORMAL, REAL, BELOW_ONE, BLOCK_M
    )
    pointers = out + rows[:, None] * stride_n + columns[None, :] * stride_m
    mask = (rows < n)[:, None] & (columns < m)[None, :]
    tl.store(pointers, values.to(out.dtype.element_ty), mask=mask)


def _tile(n: int, m: int) -> tuple[int, int]:
    """Rows and columns of a tile: about 1,024 numbers, wide where the rows are long."""
    columns = min(256, max(4, triton.next_power_of_2(m)))
    rows = min(1024 // columns, triton.next_power_of_2(n))
    return rows, columns


def _fill(out: torch.Tensor, seed: int, first_sample: int, stream: int, *, normal: bool) -> None:
    fill_fake(out, seed, first_sample, stream)
    if out.numel() == 0:
        return
    n, m = out.shape
    block_n, block_m = _tile(n, m)
    grid = (triton.cdiv(n, block_n) * triton.cdiv(m, block_m),)
    with torch.cuda.device_of(out):
        _noise_kernel[grid](
            out,
            n,
            m,
            out.stride(0),
            out.stride(1),
            seed,
            first_sample,
            stream,
            NORMAL=normal,
            REAL=tl.float64 if out.dtype == torch.float64 else tl.float32,
            BELOW_ONE=1 - torch.finfo(out.dtype).eps / 2,
            BLOCK_N=block_n,
            BLOCK_M=block_m,
            num_warps=4,
        )


def uniform(out: torch.Tensor, seed: int, first_sample: int, stream: int) -> None:
    """Fill out (n, m) with uniform draws; see `hessx.ops.uniform`."""
    _fill(out, seed, first_sample, stream, normal=False)


def normal(out: torch.Tensor, seed: int, first_sample: int, stream: int) -> None:
    """Fill out (n, m) with standard normal draws; see `hessx.ops.normal`."""
    _fill(out, seed, first_sample, stream, normal=True)
