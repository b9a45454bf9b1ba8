"""A piecewise-linear model's pass at some inputs as a list of linear maps of tangents.

They are recorded below autograd during the very pass whose graph serves the VJPs, and run
without biases and with the gates (which units are on, which entries a pool takes) as they were
then: a directional derivative then costs less than a plain pass of the model.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hessx.query.gate_rules import GATE_RULES
from hessx.query.linear_rules import LINEAR_RULES
from hessx.query.rules import Call, Linear, NotPiecewiseLinearError

_RULES = LINEAR_RULES | GATE_RULES

# Results that autograd takes for constants.
_CONSTANT = {
    *("detach", "sign", "round", "floor", "ceil", "trunc"),
    *("zeros_like", "ones_like", "full_like", "empty_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided"),
}


@dataclass(frozen=True)
class _Operation:
    """What the schema of an operation says.

    Attributes:
        name: Without ATen's prefix and the underscore of operations in place.
        function: The operation that leaves its arguments alone.
        mutates: Whether it changes an argument.
        in_place: Whether that is its first, and its result.
        is_view: Whether its result shares its first argument's memory.
    """

    name: str
    function: Callable[..., Any]
    mutates: bool
    in_place: bool
    is_view: bool


@cache
def _operation(func: Any) -> _Operation:
    schema = func._schema
    name = schema.name.removeprefix("aten::")
    in_place = schema.is_mutable and schema.name.startswith("aten::") and name.endswith("_")
    if in_place:
        name = name.removesuffix("_")
        func = getattr(getattr(torch.ops.aten, name, None), func._overloadname, func)
    aliases = [r.alias_info for r in schema.returns if r.alias_info is not None]
    is_view = bool(aliases) and not aliases[0].is_write
    return _Operation(name, func, schema.is_mutable, in_place, is_view)


@dataclass
class _Gate:
    """A map of the tangent and of the output that says where the operation was on."""

    derivative: Callable[[Tensor, Tensor], Tensor]
    output: Tensor
    version: int

    def __call__(self, tangent: Tensor) -> Tensor:
        return self.derivative(tangent, self.output)


@dataclass
class _Tracked:
    """A tensor that depends on the input.

    By its version a change through another view of the same memory is seen. The reference is
    weak: activations live as long as autograd wants them, and a reused id is seen too.
    """

    tensor: weakref.ref[Tensor]
    slot: int
    version: int
    problem: NotPiecewiseLinearError | None


@dataclass
class _Step:
    """One map from the tangents in slots ``sources`` to those in ``outputs``."""

    apply: Callable[..., Any]
    sources: tuple[int, ...]
    outputs: tuple[int, ...]
    scaled: Callable[[Tensor], Callable[[Tensor], Tensor]] | None = None
    channel_scale: Callable[[], Tensor] | None = None
    last_used: list[int] = field(default_factory=list)


class Tape:
    """The linear maps from the input's tangent to the output's, in order.

    Args:
        steps: The maps.
        output: The slot of the output's tangent; the input's is 0.

    Attributes:
        gates: Outputs of the model's operations that the tape keeps.
    """

    def __init__(self, steps: Sequence[_Step], output: int):
        self._steps = _needed(steps, output)
        self._output = output
        self.gates = [step.apply.output for step in self._steps if isinstance(step.apply, _Gate)]

    def __call__(self, tangent: Tensor) -> Tensor:
        """Return the output's tangent ``(N, c)`` for the input's, ``(N, *shape)``."""
        tangents = {0: tangent}
        for step in self._program:
            found = step.apply(*(tangents[slot] for slot in step.sources))
            if isinstance(found, Tensor):
                found = (found,)
            tangents.update(zip(step.outputs, found, strict=True))
            for slot in step.last_used:
                del tangents[slot]
        return tangents[self._output]

    @cached_property
    def _program(self) -> list[_Step]:
        steps = _fold_scales(self._steps, self._output)
        used = {self._output}
        for step in reversed(steps):
            step.last_used = [slot for slot in {*step.sources, *step.outputs} if slot not in used]
            used.update(step.sources)
        return steps


class Recorder(TorchDispatchMode):
    """Records a :class:`Tape` of what is computed from ``x`` inside.

    Args:
        x: The input, a leaf that requires a gradient.
    """

    def __init__(self, x: Tensor):
        super().__init__()
        self._slots: dict[int, _Tracked] = {}
        self._n_slots = 0
        self._steps: list[_Step] = []
        self._gates: dict[int, _Gate] = {}
        self._problem: NotPiecewiseLinearError | None = None
        self._track(x, x._version)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep the first recording from importing torch's compiler, which takes seconds."""
        return False

    def tape(self, output: Tensor) -> Tape:
        """Return the tape that ends at ``output``.

        Raises:
            NotPiecewiseLinearError: If an operation on the way has no linear map.
        """
        if self._problem is not None:
            raise self._problem
        found = self._tracked(output)
        if found is None:
            raise NotPiecewiseLinearError("something that torch does not show")
        if found.problem is not None:
            raise found.problem
        for step in self._steps:
            gate = step.apply
            if isinstance(gate, _Gate):
                if gate.output._version != gate.version:
                    raise NotPiecewiseLinearError(_CHANGED)
                gate.output = gate.output.detach()
        return Tape(self._steps, found.slot)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        operation = _operation(func)
        if self._problem is not None:
            return func(*args, **kwargs)
        done: Linear | NotPiecewiseLinearError | None
        try:
            done = self._before(operation, args, kwargs)
        except NotPiecewiseLinearError as problem:
            done = problem
        out = func(*args, **kwargs)
        if done is not None:
            self._after(operation, args, done, out)
        return out

    def _before(self, operation: _Operation, args: tuple[Any, ...], kwargs: Any) -> Linear | None:
        """Return the map of an operation about to run, None if its result is constant."""
        if operation.mutates and args:
            self._protect_gate(args[0])
        dependent = [t for t in _tensors((*args, *kwargs.values())) if self._tracked(t)]
        if not dependent:
            return None
        if operation.mutates:
            # Not where a part is written over, through out=, or where autograd does not look.
            own = operation.in_place and any(args[0] is tensor for tensor in dependent)
            if not (own and torch.is_grad_enabled()):
                raise NotPiecewiseLinearError(f"{operation.name} in place")
        elif operation.name in _CONSTANT or not torch.is_grad_enabled():
            return None
        for tensor in dependent:
            problem = self._slots[id(tensor)].problem
            if problem is not None:
                raise problem
        rule = _RULES.get(operation.name)
        if rule is None:
            raise NotPiecewiseLinearError(operation.name)
        return rule(Call(operation.name, operation.function, args, kwargs, dependent))

    def _after(
        self,
        operation: _Operation,
        args: tuple[Any, ...],
        done: Linear | NotPiecewiseLinearError,
        out: Any,
    ) -> None:
        """Append the step of an operation that ran, or track that it has none."""
        results = [tensor for tensor in _tensors([out]) if _has_derivative(tensor)]
        if not results:
            # Integers, comparisons and numbers are constants to autograd.
            return
        # Torch has not yet counted a change in place, nor tied a view to its base.
        version = (args if operation.is_view else results)[0]._version + operation.in_place
        if isinstance(done, NotPiecewiseLinearError):
            for result in results:
                self._track(result, version, done)
            if operation.mutates:
                # Other views of what was written would hide it.
                self._problem = done
            return
        if isinstance(out, tuple):
            # The others are constants that a backward pass needs.
            del results[1:]
        apply: Any = done.apply
        if done.at is not None:
            apply = done.at(out)
        elif done.gate is not None:
            apply = self._gates[id(out)] = _Gate(done.gate, out, version)
        sources = tuple(self._slots[id(source)].slot for source in done.sources)
        outputs = tuple(self._track(result, version) for result in results)
        self._steps.append(_Step(apply, sources, outputs, done.scaled, done.channel_scale))

    def _protect_gate(self, changed: Any) -> None:
        gate = self._gates.pop(id(changed), None)
        if gate is not None and gate.output is changed:
            gate.output = gate.output.clone()
            gate.version = gate.output._version

    def _tracked(self, tensor: Tensor) -> _Tracked | None:
        found = self._slots.get(id(tensor))
        if found is None or found.tensor() is not tensor:
            return None
        if tensor._version != found.version:
            raise NotPiecewiseLinearError(_CHANGED)
        return found

    def _track(
        self, tensor: Tensor, version: int, problem: NotPiecewiseLinearError | None = None
    ) -> int:
        slot = self._n_slots
        self._n_slots += 1
        self._slots[id(tensor)] = _Tracked(weakref.ref(tensor), slot, version, problem)
        return slot


_CHANGED = "a change in place through another view"


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among an operation's arguments or results."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (item for item in value if isinstance(item, Tensor))


def _has_derivative(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _needed(steps: Sequence[_Step], output: int) -> list[_Step]:
    """Return the steps that the output depends on."""
    wanted = {output}
    kept = []
    for step in reversed(steps):
        if wanted.intersection(step.outputs):
            wanted.update(step.sources)
            kept.append(step)
    return kept[::-1]


def _fold_scales(steps: Sequence[_Step], output: int) -> list[_Step]:
    """Put factors that follow a convolution, and nothing else does, into its weight."""
    uses = Counter(slot for step in steps for slot in step.sources)
    uses[output] += 1
    maker = {slot: step for step in steps for slot in step.outputs}
    folded: dict[int, _Step | None] = {}
    for step in steps:
        factors = step.channel_scale
        if factors is None or step.sources[0] not in maker or uses[step.sources[0]] > 1:
            continue
        convolution = maker[step.sources[0]]
        if convolution.scaled is not None:
            apply = convolution.scaled(factors())
            folded[id(convolution)] = _Step(apply, convolution.sources, step.outputs)
            folded[id(step)] = None
    return [s for step in steps if (s := folded.get(id(step), step)) is not None]
