"""Mistakes in Triton kernels and in the Python code that launches them, found by `ast`."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from itertools import pairwise

from tests.gpu.mutants.mutant import Edit, Mistake, Mutant, named

_MEMORY_CALLS = ("load", "store")
_COMPARISONS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
# Each comparison with a bound one off: one way by its neighbour, the other way by a number.
_OTHER_BOUND = {"<": " - 1", "<=": " + 1", ">": " + 1", ">=": " - 1"}
_NEIGHBOUR = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
_REVERSED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
# Functions that choose tiles and blocks: any answer gives the same results, sooner or later.
_TUNING = frozenset({"_tile", "_threads"})


class _Source:
    """A source with the places of its syntax tree."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)
        self._lines = text.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def span(self, node: ast.AST) -> tuple[int, int]:
        return (
            self._offset(node.lineno, node.col_offset),
            self._offset(node.end_lineno, node.end_col_offset),
        )

    def of(self, node: ast.AST) -> str:
        begin, end = self.span(node)
        return self.text[begin:end]

    def replaced(self, node: ast.AST, text: str) -> Edit:
        return Edit(*self.span(node), text)

    def between(self, left: ast.AST, right: ast.AST, pattern: str, text: str) -> Edit:
        """Replace what matches `pattern` between two nodes: an operator, which has no place."""
        begin, end = self.span(left)[1], self.span(right)[0]
        match = re.compile(pattern).search(self.text, begin, end)
        return Edit(*match.span(), text)

    def _offset(self, line: int, column: int) -> int:
        # The tree counts bytes.
        before = self._lines[line - 1].encode()[:column].decode()
        return self._starts[line - 1] + len(before)


def mutants(path: str, text: str) -> list[Mutant]:
    """List every mutant of a file of Triton kernels and launch code.

    Args:
        path: The file, relative to the root of the repository.
        text: Its text.
    """
    source = _Source(text)
    functions = [node for node in source.tree.body if isinstance(node, ast.FunctionDef)]
    kernels = {function.name for function in functions if _is_kernel(function)}

    def mistakes() -> Iterator[tuple[str, Mistake]]:
        for function in functions:
            if function.name in _TUNING:
                continue
            operators = _OF_KERNELS if function.name in kernels else _OF_LAUNCHES
            nodes = [node for part in function.body for node in ast.walk(part)]
            for name, operator in operators.items():
                for node in (function, *sorted(nodes, key=_place)):
                    for edits in operator(source, node, function):
                        yield function.name, Mistake(name, tuple(edits))

    return named(path, text, mistakes())


def _place(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)


def _is_kernel(function: ast.FunctionDef) -> bool:
    return any("triton.jit" in ast.unparse(decorator) for decorator in function.decorator_list)


Edits = Iterator[list[Edit]]


def _called(node: ast.AST, *names: str) -> bool:
    """Say whether node is a call of one of tl.<names>."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "tl"
        and node.func.attr in names
    )


def _drop_barrier(source: _Source, node: ast.AST, function: ast.FunctionDef) -> Edits:
    if _called(node, "debug_barrier"):
        yield [source.replaced(node, "None")]


def _drop_mask(source: _Source, node: ast.AST, function: ast.FunctionDef) -> Edits:
    """Drop a mask, and each part of one."""
    if isinstance(node, ast.Call):
        named_arguments = {keyword.arg: keyword.value for keyword in node.keywords}
        if "mask" in named_arguments:
            # Triton allows no `other` without a mask.
            dropped = (named_arguments.get(name) for name in ("mask", "other"))
            yield [source.replaced(value, "None") for value in dropped if value]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
        if isinstance(node.right, ast.Constant):
            return
        yield [source.replaced(node, f"({source.of(node.left)})")]
        yield [source.replaced(node, f"({source.of(node.right)})")]


def _shift_comparison(source: _Source, node: ast.AST, function: ast.FunctionDef) -> Edits:
    """`<` to `<=` and `<` to a bound less one, and the like."""
    for sign, left, right in _comparisons(node):
        yield [source.between(left, right, sign, _NEIGHBOUR[sign])]
        end = source.span(right)[1]
        yield [Edit(end, end, _OTHER_BOUND[sign])]


def _reverse_comparison(source: _Source, node: ast.AST, function: ast.FunctionDef) -> Edits:
    for sign, left, right in _comparisons(node):
        yield [source.between(left, right, sign, _REVERSED[sign])]


def _comparisons(node: ast.AST) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    if isinstance(node, ast.Compare):
        operands = (node.left, *node.comparators)
        for sign, left, right in zip(node.ops, operands[:-1], operands[1:], strict=True):
            if type(sign) in _COMPARISONS:
                yield _COMPARISONS[type(sign)], left, right


def _negate_condition(source: _Source, node: ast.AST, function: ast.FunctionDef) -> Edits:
    if isinstance(node, (ast.If, ast.IfExp)):
        yield [source.replaced(node.test, f"not ({source.of(node.test)})")]
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
        sign, other = ("==", "!=") if isinstance(node.ops[0], ast.Eq) else ("!=", "==")
        yield [source.between(node.left, node.comparators[0], sign, other)]
    if isinstance(node, ast.BoolOp):
        sign, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            yield [source.between(left, right, rf"\b{sign}\b", other)]
    if _called(node, "where"):
        _, chosen, other = node.args
        yield [
            source.replaced(chosen, source.of(other)),
            source.replaced(other, source.of(chosen)),
        ]


def _shift_loop(source: _Source, node: ast.AST, function: ast.FunctionDef) -> Edits:
    """Start, stop and step of a loop, one up and one down."""
    if isinstance(node, ast.For) and isinstance(node.iter, ast.Call):
        callee = node.iter.func
        if isinstance(callee, ast.Name) and callee.id == "range":
            for bound in node.iter.args:
                yield from _one_off(source, bound)


def _shift_index(source: _Source, node: ast.AST, function: ast.FunctionDef) -> Edits:
    """Addresses and ranges of lanes, one up and one down."""
    if _called(node, *_MEMORY_CALLS):
        yield from _one_off(source, node.args[0])
    if _called(node, "arange"):
        yield from _one_off(source, node)


def _one_off(source: _Source, node: ast.AST) -> Edits:
    for step in ("+ 1", "- 1"):
        yield [source.replaced(node, f"({source.of(node)} {step})")]


def _make_atomic_plain(source: _Source, node: ast.AST, function: ast.FunctionDef) -> Edits:
    if not _called(node, "atomic_add", "atomic_max", "atomic_min"):
        return
    pointer, value = (source.of(argument) for argument in node.args[:2])
    masks = [f", mask={source.of(word.value)}" for word in node.keywords if word.arg == "mask"]
    mask = "".join(masks)
    old = f"tl.load({pointer}{mask})"
    new = {
        "atomic_add": f"{old} + {value}",
        "atomic_max": f"tl.maximum({old}, {value})",
        "atomic_min": f"tl.minimum({old}, {value})",
    }[node.func.attr]
    yield [source.replaced(node, f"tl.store({pointer}, {new}{mask})")]


def _swap_strides(source: _Source, node: ast.AST, function: ast.FunctionDef) -> Edits:
    """Exchange neighbouring strides of the signature, as a launch in the wrong order would."""
    if node is not function:
        return
    strides = [argument for argument in function.args.args if "stride" in argument.arg]
    for left, right in pairwise(strides):
        yield [source.replaced(left, right.arg), source.replaced(right, left.arg)]


def _spoil_accumulator(source: _Source, node: ast.AST, function: ast.FunctionDef) -> Edits:
    """Start a sum from ones; forget what was added up so far."""
    if _called(node, "zeros"):
        shape, dtype = (source.of(argument) for argument in node.args)
        yield [source.replaced(node, f"tl.full({shape}, 1, {dtype})")]
    if _called(node, "dot") and len(node.args) == 3:
        yield [source.replaced(node.args[2], "None")]
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
        yield [source.between(node.target, node.value, r"\+=", "=")]


def _change_sign(source: _Source, node: ast.AST, function: ast.FunctionDef) -> Edits:
    """`+` to `-` and back, in indices and in values."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        sign, other = ("+", "-") if isinstance(node.op, ast.Add) else ("-", "+")
        yield [source.between(node.left, node.right, re.escape(sign), other)]
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
        yield [source.between(node.target, node.value, r"\+=", "-=")]


def _drop_program_id(source: _Source, node: ast.AST, function: ast.FunctionDef) -> Edits:
    """Take a component of the program id as 0; leave out a divisor or modulus that makes one."""
    if _called(node, "program_id"):
        yield [source.replaced(node, f"({source.of(node)} * 0)")]
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, (ast.FloorDiv, ast.Mod))):
        return
    names = {part.id for part in ast.walk(node.left) if isinstance(part, ast.Name)}
    if names & _program_ids(function):
        yield [source.replaced(node, f"({source.of(node)}) * 0")]
        yield [source.replaced(node, f"({source.of(node.left)})")]


def _program_ids(function: ast.FunctionDef) -> set[str]:
    """Names that hold a program id as it is."""
    return {
        node.targets[0].id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and ast.unparse(node.value).startswith("tl.program_id")
    }


def _shift_grid(source: _Source, node: ast.AST, function: ast.FunctionDef) -> Edits:
    """One program, block, thread or byte of shared memory more or less."""
    if not isinstance(node, ast.Call):
        return
    if isinstance(node.func, ast.Subscript):
        grid = node.func.slice
        for step in ("+ 1", "- 1"):
            yield [source.replaced(grid, f"tuple(size {step} for size in {source.of(grid)})")]
    if isinstance(node.func, ast.Name) and node.func.id == "launch":
        # After the kernel and a tensor of its device.
        for size in node.args[2:5]:
            yield from _one_off(source, size)


Operator = Callable[[_Source, ast.AST, ast.FunctionDef], Edits]

_OF_LAUNCHES: dict[str, Operator] = {
    "grid": _shift_grid,
    "bound": _shift_comparison,
    "reversed": _reverse_comparison,
    "condition": _negate_condition,
    "loop": _shift_loop,
    "sign": _change_sign,
}
_OF_KERNELS: dict[str, Operator] = {
    "barrier": _drop_barrier,
    "mask": _drop_mask,
    "bound": _shift_comparison,
    "reversed": _reverse_comparison,
    "condition": _negate_condition,
    "loop": _shift_loop,
    "index": _shift_index,
    "atomic": _make_atomic_plain,
    "stride": _swap_strides,
    "accumulator": _spoil_accumulator,
    "program": _drop_program_id,
    "sign": _change_sign,
}
