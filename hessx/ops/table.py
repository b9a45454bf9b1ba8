"""The table of ops: each one's schema, shape function, gradient and implementations, stated once.

An op ``hessx::name`` of a family is implemented by the function ``name`` of the module
``hessx.ops.<family>.<backend>``, imported when it is first called. torch's dispatcher routes by
device; within a device `hessx.backends` picks the implementation at each call, so that a forced
backend is honoured by compiled graphs as well.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from hessx import backends
from hessx.ops.boxes import rules as boxes
from hessx.ops.edges import rules as edges
from hessx.ops.eigh import rules as eigh
from hessx.ops.flow import rules as flow
from hessx.ops.grid import rules as grid
from hessx.ops.grid_noise import rules as grid_noise
from hessx.ops.infidelity import rules as infidelity
from hessx.ops.moments import rules as moments
from hessx.ops.noise import rules as noise
from hessx.ops.prox import rules as prox
from hessx.ops.shrink import rules as shrink
from hessx.ops.softmax import rules as softmax
from hessx.ops.trust_region import rules as trust_region


@dataclass(frozen=True)
class Op:
    """One row of the table.

    Attributes:
        family: Folder under ``hessx/ops`` that holds the implementations.
        schema: Name, arguments and results, in torch's schema language.
        fake: Output shapes and dtypes without data; checks the arguments.
        setup_context: Saves what the gradient needs; None where there is no gradient.
        backward: The gradient, written with differentiable torch functions.
    """

    family: str
    schema: str
    fake: Callable[..., Any]
    setup_context: Callable[..., None] | None = None
    backward: Callable[..., Any] | None = None

    @property
    def name(self) -> str:
        """The op's name, without its namespace."""
        return self.schema.partition("(")[0]


OPS = (
    Op(
        "noise",
        "uniform(Tensor(a!) out, SymInt seed, SymInt first_sample, SymInt stream) -> ()",
        noise.fill_fake,
    ),
    Op(
        "noise",
        "normal(Tensor(a!) out, SymInt seed, SymInt first_sample, SymInt stream) -> ()",
        noise.fill_fake,
    ),
    Op(
        "moments",
        "cross_moments(Tensor u, Tensor v, Tensor? weight=None)"
        " -> (Tensor sum_u, Tensor sum_v, Tensor uv)",
        moments.cross_moments_fake,
        moments.save_inputs,
        moments.cross_moments_backward,
    ),
    Op(
        "moments",
        "normal_moments(Tensor v, Tensor? weight, SymInt m, SymInt seed, SymInt first_sample,"
        " SymInt stream) -> (Tensor sum_z, Tensor sum_v, Tensor zv)",
        moments.normal_moments_fake,
        moments.save_normal_moments,
        moments.normal_moments_backward,
    ),
    Op(
        "moments",
        "core_moments(Tensor u, Tensor w) -> (Tensor uw, Tensor u2w2, Tensor cross, Tensor w2)",
        moments.core_moments_fake,
        moments.save_inputs,
        moments.core_moments_backward,
    ),
    Op(
        "eigh",
        "eigh(Tensor a) -> (Tensor values, Tensor vectors)",
        eigh.eigh_fake,
        eigh.save_solution,
        eigh.eigh_backward,
    ),
    Op(
        "trust_region",
        "trust_region(Tensor eigenvalues, Tensor gradient, Tensor radius)"
        " -> (Tensor step, Tensor multiplier)",
        trust_region.trust_region_fake,
        trust_region.save_solution,
        trust_region.trust_region_backward,
    ),
    Op(
        "softmax",
        "softmax_product(Tensor probabilities, Tensor vectors) -> Tensor",
        softmax.softmax_product_fake,
        softmax.save_inputs,
        softmax.softmax_product_backward,
    ),
    Op(
        "shrink",
        "soft_threshold(Tensor x, Tensor threshold) -> Tensor",
        shrink.soft_threshold_fake,
        shrink.save_thresholded,
        shrink.soft_threshold_backward,
    ),
    Op(
        "shrink",
        "fista_step(Tensor gradient, Tensor product, Tensor point, Tensor previous, Tensor step,"
        " Tensor momentum, Tensor lambda1, Tensor lambda2, Tensor(a!) next,"
        " Tensor(b!) extrapolated, Tensor(c!) sums) -> ()",
        shrink.fista_step_fake,
    ),
    Op(
        "prox",
        "prox_pass(Tensor basis, Tensor gradient, Tensor z, Tensor lambda1, bool with_gram)"
        " -> (Tensor w, Tensor sums, Tensor gram)",
        prox.prox_pass_fake,
    ),
    Op("prox", "gram(Tensor x) -> Tensor", prox.gram_fake, prox.save_rows, prox.gram_backward),
    Op(
        "grid",
        "grid_difference(Tensor grid) -> Tensor",
        grid.grid_difference_fake,
        grid.save_size,
        grid.grid_difference_backward,
    ),
    Op(
        "grid",
        "grid_difference_adjoint(Tensor edges, SymInt p1, SymInt p2) -> Tensor",
        grid.grid_difference_adjoint_fake,
        grid.save_nothing,
        grid.grid_difference_adjoint_backward,
    ),
    Op(
        "grid",
        "grid_laplacian(Tensor grid) -> Tensor",
        grid.grid_laplacian_fake,
        grid.save_nothing,
        grid.grid_laplacian_backward,
    ),
    Op(
        "grid",
        "grid_curl(Tensor edges, SymInt p1, SymInt p2) -> Tensor",
        grid.grid_curl_fake,
        grid.save_nothing,
        grid.grid_curl_backward,
    ),
    Op(
        "grid",
        "grid_curl_adjoint(Tensor potential) -> Tensor",
        grid.grid_curl_adjoint_fake,
        grid.save_size,
        grid.grid_curl_adjoint_backward,
    ),
    Op(
        "grid_noise",
        "grid_normal(Tensor(a!) out, SymInt seed, SymInt first_sample, SymInt stream) -> ()",
        grid_noise.grid_normal_fake,
    ),
    Op(
        "edges",
        "edge_prox(Tensor z, Tensor centre, Tensor radius, Tensor threshold) -> Tensor",
        edges.edge_prox_fake,
        edges.save_edge_prox,
        edges.edge_prox_backward,
    ),
    Op(
        "edges",
        "edge_divergence(Tensor z, Tensor centre, Tensor radius, Tensor threshold,"
        " Tensor(a!) out) -> ()",
        edges.edge_divergence_fake,
    ),
    Op(
        "edges",
        "edge_update(Tensor z, Tensor anchor, Tensor centre, Tensor potential, Tensor radius,"
        " Tensor threshold, Tensor weight, Tensor(a!) next, Tensor(b!) residual) -> ()",
        edges.edge_update_fake,
    ),
    Op(
        "infidelity",
        "perturbation_dots(Tensor perturbations, Tensor attributions) -> Tensor",
        infidelity.perturbation_dots_fake,
        infidelity.save_inputs,
        infidelity.perturbation_dots_backward,
    ),
    Op(
        "infidelity",
        "perturbation_gradient(Tensor perturbations, Tensor attributions, Tensor differences,"
        " Tensor? weights=None) -> (Tensor gradient, Tensor loss)",
        infidelity.perturbation_gradient_fake,
    ),
    Op(
        "flow",
        "tv_flow(Tensor estimate, Tensor radius)"
        " -> (Tensor solution, Tensor potential, Tensor pivots)",
        flow.tv_flow_fake,
    ),
    Op(
        "boxes",
        "box_sums(Tensor x, int[] sides) -> Tensor",
        boxes.box_sums_fake,
        boxes.save_picture,
        boxes.box_sums_backward,
    ),
    Op(
        "boxes",
        "box_sums_adjoint(Tensor w, int[] sides, SymInt p1, SymInt p2) -> Tensor",
        boxes.box_sums_adjoint_fake,
        boxes.save_sides,
        boxes.box_sums_adjoint_backward,
    ),
)


@cache
def implemented(op: Op) -> tuple[str, ...]:
    """List the backends that implement an op: those with a file in the folder of its family."""
    folder = f"hessx.ops.{op.family}"
    return tuple(name for name in backends.BACKENDS if importlib.util.find_spec(f"{folder}.{name}"))


@cache
def implementation(op: Op, backend: str) -> Callable[..., Any]:
    """Import one backend's implementation of an op."""
    return getattr(importlib.import_module(f"hessx.ops.{op.family}.{backend}"), op.name)


def _routed(op: Op, device: str) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return implementation(op, backends.choose(device, implemented(op)))(*args)

    return call


def _register(library: torch.library.Library, op: Op) -> None:
    library.define(op.schema, tags=(torch.Tag.pt2_compliant_tag,))
    library.impl(op.name, _routed(op, "cpu"), "CPU")
    library.impl(op.name, _routed(op, "cuda"), "CUDA")
    library.impl(op.name, _routed(op, "other"), "CompositeExplicitAutograd")
    torch.library.register_fake(f"hessx::{op.name}", op.fake, lib=library)
    if op.backward is not None:
        torch.library.register_autograd(
            f"hessx::{op.name}", op.backward, setup_context=op.setup_context, lib=library
        )


# The registrations live as long as this object.
_library = torch.library.Library("hessx", "DEF")
for _op in OPS:
    _register(_library, _op)
