"""Cascading randomisation: what is left of an explanation as a model forgets what it learnt."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from hessx.run import Run, check_choice

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Cascade(Generic[T]):
    """Explanations of a model whose layers lose their trained parameters one after another.

    Attributes:
        trained: What was explained of the model as it is.
        names: The layers, in the order in which they were re-initialised.
        results: ``results[i]`` is what was explained with ``names[: i + 1]`` re-initialised.
    """

    trained: T
    names: tuple[str, ...]
    results: tuple[T, ...]


def cascading_randomization(
    model: nn.Module,
    explain: Callable[[nn.Module], T],
    *,
    order: Literal["top-down", "bottom-up"] = "top-down",
    layers: Sequence[str] | None = None,
    seed: int = 0,
    show_progress: bool = False,
) -> Cascade[T]:
    """Re-initialise the layers of a copy of a model one after another and explain each state.

    An explanation that depends on what the model has learnt should lose its structure on the way;
    one that does not would be much the same for any model.

    A layer's new values come from its own ``reset_parameters()`` where it has one, as torch's have:
    batch normalisation so gets scale 1, shift 0 and running statistics 0 and 1, which were learnt
    as well. Any other tensor is drawn from the normal distribution of its own mean and standard
    deviation (of deviation 1 if all its entries are equal). They depend on ``seed`` and on the
    layer's place in the model, neither on the order nor on which other layers are chosen, and are
    the same on every device. No random state of torch is changed.

    A parameter that several layers share (tied weights) would change in the step of each of them:
    such layers have to be re-initialised in one step, by a name in ``layers`` that holds them all,
    or not at all.

    Args:
        model: The trained model; only copies of it are changed.
        explain: Called with the copy, first as trained, then after each layer. It is the same copy
            every time: what is returned should not hold on to it.
        order: "top-down" from the output to the input, or "bottom-up".
        layers: Names of layers as in ``model.named_modules()``, from the input to the output; one
            that holds several stands for all of them, in one step. All modules with parameters
            of their own (or with running statistics) in the order in which the model declares them
            unless given.
        seed: Key of the new values, ``0 <= seed < 2**63``.
        show_progress: Show a progress bar with the time left.

    Returns:
        Names and results.

    Raises:
        TypeError: If ``model`` is no module, ``explain`` not callable, or ``layers`` not names.
        ValueError: If ``order`` or ``seed`` is out of range, or ``layers`` names something that is
            not there, is named twice, or has no parameters; if layers of different steps share a
            parameter; or if ``model`` cannot be copied, or has ``torch.nn.utils.weight_norm`` or
            ``spectral_norm`` (those of ``torch.nn.utils.parametrizations`` are taken).

    Source:
        Adebayo et al., Sanity Checks for Saliency Maps (NeurIPS 2018), section 3.1; used in
        Statistically Consistent Saliency Estimation (LEG), section 5.1.

    Example:
        >>> import torch, hessx
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        >>> cascade = hessx.cascading_randomization(net, lambda copy: copy[0].weight.clone())
        >>> cascade.names
        ('2', '0')
        >>> [torch.equal(weight, net[0].weight) for weight in cascade.results]
        [True, False]
    """
    run = Run(seed, show_progress=show_progress)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not callable(explain):
        raise TypeError(f"explain must be callable, got {type(explain).__name__}")
    check_choice("order", order, ("top-down", "bottom-up"))
    numbers = {name: i for i, (name, module) in enumerate(model.named_modules()) if _learns(module)}
    steps = _steps(model, layers, numbers)
    _check_normalized(model)
    _check_tied(model, steps)
    names = list(steps) if order == "bottom-up" else list(steps)[::-1]
    changed = _copied(model)
    seeds = _seeds(seed, 1 + max(numbers.values()))
    with run.progress(1 + len(names), "cascading_randomization", unit="model") as progress:
        trained = explain(changed)
        progress.update()
        results = []
        for name in names:
            for layer in steps[name]:
                _reinitialize(changed.get_submodule(layer), seeds[numbers[layer]])
            results.append(explain(changed))
            progress.update()
    return Cascade(trained, tuple(names), tuple(results))


def _learns(module: nn.Module) -> bool:
    """Return whether a module itself, not its children, holds what training changes."""
    if isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats:
        return True
    return next(module.parameters(recurse=False), None) is not None


def _steps(
    model: nn.Module, layers: Sequence[str] | None, numbers: dict[str, int]
) -> dict[str, list[str]]:
    """Return what is re-initialised in each step, from the input to the output."""
    if layers is None:
        if not numbers:
            raise ValueError(f"model must have parameters, {type(model).__name__} has none")
        return {name: [name] for name in numbers}
    names = layers if isinstance(layers, Sequence) and not isinstance(layers, str) else [None]
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"layers must be a sequence of names, got {layers!r}")
    if not layers:
        raise ValueError("layers must name at least one layer")
    modules = {name for name, _ in model.named_modules()}
    steps: dict[str, list[str]] = {}
    taken: set[str] = set()
    for name in layers:
        if name not in modules:
            raise ValueError(f"layers must be of model.named_modules(), got {name!r}")
        inside = [layer for layer in numbers if f"{layer}.".startswith(f"{name}.") or not name]
        if not inside:
            raise ValueError(f"layers must have parameters, {name!r} has none")
        if taken & set(inside):
            raise ValueError(f"layers must name each layer once, {name!r} is named twice")
        taken |= set(inside)
        steps[name] = inside
    return steps


def _check_normalized(model: nn.Module) -> None:
    for name, module in model.named_modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, (WeightNorm, SpectralNorm)):
                # Its weight is neither a parameter nor, with a graph, to be copied.
                kind = "weight_norm" if isinstance(hook, WeightNorm) else "spectral_norm"
                raise ValueError(
                    f"model must not have torch.nn.utils.{kind}, as its layer {name!r} has: use "
                    f"torch.nn.utils.parametrizations.{kind}"
                )


def _check_tied(model: nn.Module, steps: dict[str, list[str]]) -> None:
    step_of = {layer: step for step, inside in steps.items() for layer in inside}
    first_owner: dict[int, str] = {}
    for layer, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            first = first_owner.setdefault(id(parameter), layer)
            if step_of.get(first) != step_of.get(layer):
                raise ValueError(
                    "layers must take those that share a parameter in one step, by a name that "
                    f"holds them all: {first!r} and {layer!r} share one"
                )


@torch.inference_mode(False)
def _copied(module: nn.Module) -> nn.Module:
    """Return a copy whose parameters can have gradients, also for a caller in inference mode."""
    try:
        return copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"model must be one that copy.deepcopy can copy, {type(module).__name__} is not: "
            f"{error}"
        ) from error


def _seeds(seed: int, count: int) -> list[int]:
    # Torch's generator keeps 32 bits of a seed; Python's takes all of them.
    generator = random.Random(seed)
    return [generator.getrandbits(32) for _ in range(count)]


@torch.inference_mode(False)
@torch.no_grad()
def _reinitialize(layer: nn.Module, seed: int) -> None:
    """Give a layer's own tensors new values; what its children hold stays."""
    # On the CPU: there the values are the same for every device, and one random state is set aside.
    fresh = _copied(layer).to("cpu")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        reset = getattr(fresh, "reset_parameters", None)
        if callable(reset):
            reset()
        else:
            for parameter in fresh.parameters(recurse=False):
                _redraw(parameter)
    pairs = [
        *zip(layer.parameters(recurse=False), fresh.parameters(recurse=False), strict=True),
        *zip(layer.buffers(recurse=False), fresh.buffers(recurse=False), strict=True),
    ]
    for old, new in pairs:
        old.copy_(new)


def _redraw(parameter: Tensor) -> None:
    values = parameter.double()
    spread = values.std(correction=0)
    spread = torch.where(spread > 0, spread, 1)
    parameter.copy_(values.mean() + spread * torch.randn(parameter.shape, dtype=torch.float64))
