"""Mistakes in CUDA kernels and in the device functions of the headers that they use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from tests.gpu.mutants.mutant import Edit, Mistake, Mutant, named
from tests.gpu.mutants.tokens import Tokens

_NEIGHBOUR = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
_OTHER_BOUND = {"<": " - 1", "<=": " + 1", ">": " + 1", ">=": " - 1"}
_REVERSED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_OPPOSITE = {"==": "!=", "!=": "==", "&&": "||", "||": "&&"}
_ASSIGNMENTS = frozenset({"=", "+=", "-=", "*=", "/=", "return"})
_SEPARATORS = frozenset({";", ",", "?", ":"})
_LOGICAL = frozenset({"&&", "||"})
_CONDITION_BEGINS = _ASSIGNMENTS | _SEPARATORS
_COMPARED_ENDS = _SEPARATORS | _LOGICAL
_ZEROS = (["0"], ["0", ".", "0"], ["{", "}"], ["Real", "(", "0", ")"], ["T", "(", "0", ")"])

Edits = Iterator[tuple[str, list[Edit]]]


def mutants(path: str, text: str) -> list[Mutant]:
    """List every mutant of a CUDA source or of a header with device functions.

    Args:
        path: The file, relative to the root of the repository.
        text: Its text, formatted by clang-format.
    """
    tokens = Tokens(text)

    def mistakes() -> Iterator[tuple[str, Mistake]]:
        for name, operator in _OPERATORS.items():
            for owner, edits in operator(tokens):
                yield owner, Mistake(name, tuple(edits))

    return named(path, text, mistakes())


def _replaced(tokens: Tokens, begin: int, end: int, text: str) -> Edit:
    return Edit(tokens[begin].start, tokens[end - 1].end, text)


def _signs(tokens: Tokens, *texts: str) -> Iterator[tuple[int, str]]:
    """Binary operators in device functions: index and owner."""
    for index in range(len(tokens)):
        token = tokens[index]
        if token.in_function and token.text in texts and tokens.is_binary(index):
            yield index, token.owner


def _drop_barrier(tokens: Tokens) -> Edits:
    for index, opening in tokens.calls(r"__sync(threads|warp)"):
        end = tokens.partner(opening) + 1
        yield tokens[index].owner, [_replaced(tokens, index, end, "static_cast<void>(0)")]


def _drop_mask(tokens: Tokens) -> Edits:
    """Take a guard as passed; leave out one of two conditions."""
    for index, begin, end in _conditions(tokens):
        yield tokens[index].owner, [_replaced(tokens, begin, end, "true")]
    ends = _CONDITION_BEGINS | _LOGICAL
    for index, owner in _signs(tokens, "&&", "||"):
        begin, end = tokens.operand_begin(index, ends), tokens.operand_end(index, ends)
        yield owner, [_replaced(tokens, begin, end, tokens.between(begin, index))]
        yield owner, [_replaced(tokens, begin, end, tokens.between(index + 1, end))]


def _conditions(tokens: Tokens) -> Iterator[tuple[int, int, int]]:
    """Conditions of `if`, `while` and `? :`: where they belong to, begin and end."""
    for index, opening in tokens.calls("if|while"):
        yield index, opening + 1, tokens.partner(opening)
    for index, _ in _signs(tokens, "?"):
        yield index, tokens.operand_begin(index, _CONDITION_BEGINS), index


def _shift_comparison(tokens: Tokens) -> Edits:
    for index, owner in _signs(tokens, *_NEIGHBOUR):
        sign = tokens.text(index)
        yield owner, [_replaced(tokens, index, index + 1, _NEIGHBOUR[sign])]
        end = tokens[tokens.operand_end(index, _COMPARED_ENDS) - 1].end
        yield owner, [Edit(end, end, _OTHER_BOUND[sign])]


def _reverse_comparison(tokens: Tokens) -> Edits:
    for index, owner in _signs(tokens, *_REVERSED):
        yield owner, [_replaced(tokens, index, index + 1, _REVERSED[tokens.text(index)])]


def _negate_condition(tokens: Tokens) -> Edits:
    for index, begin, end in _conditions(tokens):
        text = f"!({tokens.between(begin, end)})"
        yield tokens[index].owner, [_replaced(tokens, begin, end, text)]
    for index, owner in _signs(tokens, *_OPPOSITE):
        yield owner, [_replaced(tokens, index, index + 1, _OPPOSITE[tokens.text(index)])]


def _shift_loop(tokens: Tokens) -> Edits:
    """Start of a loop one up and one down; its end is a comparison."""
    for index, opening in tokens.calls("for"):
        equals = tokens.operand_end(opening, frozenset({"=", ";"}))
        if tokens.text(equals) == "=":
            end = tokens[tokens.operand_end(equals, frozenset({",", ";"})) - 1].end
            for step in (" + 1", " - 1"):
                yield tokens[index].owner, [Edit(end, end, step)]


def _shift_index(tokens: Tokens) -> Edits:
    """Subscripts one up and one down."""
    for index in range(len(tokens)):
        token = tokens[index]
        if not token.in_function or token.text != "[" or tokens[index - 1].kind != "name":
            continue
        if tokens[index - 2].kind == "name" and tokens.text(index - 2) != "return":
            # The size of an array.
            continue
        end = tokens[tokens.partner(index) - 1].end
        for step in (" + 1", " - 1"):
            yield token.owner, [Edit(end, end, step)]


def _make_atomic_plain(tokens: Tokens) -> Edits:
    """Read, change and write in steps that other threads can come between."""
    for index, opening in tokens.calls(r"atomic\w+"):
        address, value = (tokens.between(*argument) for argument in tokens.arguments(opening)[:2])
        name = tokens.text(index).removesuffix("_block")
        plain = {
            "atomicAdd": f"(*({address}) += ({value}))",
            "atomicSub": f"(*({address}) -= ({value}))",
            "atomicOr": f"(*({address}) |= ({value}))",
            "atomicAnd": f"(*({address}) &= ({value}))",
            "atomicExch": f"(*({address}) = ({value}))",
            "atomicMax": f"(*({address}) = *({address}) < ({value}) ? ({value}) : *({address}))",
            "atomicMin": f"(*({address}) = *({address}) > ({value}) ? ({value}) : *({address}))",
        }
        if name not in plain:
            raise NotImplementedError(f"no plain form of {name}")
        end = tokens.partner(opening) + 1
        yield tokens[index].owner, [_replaced(tokens, index, end, plain[name])]


def _swap_strides(tokens: Tokens) -> Edits:
    """Exchange neighbouring strides of a signature, as a launch in the wrong order would."""
    for index, opening in _signatures(tokens):
        names = [end - 1 for _, end in tokens.arguments(opening)]
        strides = [name for name in names if "stride" in tokens.text(name)]
        for left, right in pairwise(strides):
            yield (
                tokens[index].owner,
                [
                    _replaced(tokens, left, left + 1, tokens.text(right)),
                    _replaced(tokens, right, right + 1, tokens.text(left)),
                ],
            )


def _signatures(tokens: Tokens) -> Iterator[tuple[int, int]]:
    seen: set[str] = set()
    for index in range(len(tokens) - 1):
        token = tokens[index]
        if token.in_function and token.text == token.owner and tokens.text(index + 1) == "(":
            if token.owner not in seen:
                yield index, index + 1
            seen.add(token.owner)


def _spoil_accumulator(tokens: Tokens) -> Edits:
    """Start a sum from what another one left; forget what was added up so far."""
    for index in range(len(tokens)):
        token = tokens[index]
        if not token.owner or token.text != "=" or tokens[index - 1].kind != "name":
            continue
        end = tokens.operand_end(index, frozenset({",", ";"}))
        zero = [tokens.text(i) for i in range(index + 1, end)] in list(_ZEROS)
        if zero and tokens.text(end) != ")" and _declares(tokens, index - 1):
            # Without a value it would start from one that the compiler chooses, the same each time
            # and often a harmless one.
            yield token.owner, [_replaced(tokens, index + 1, end, "{3}")]
    for index, owner in _signs(tokens, "+=", "-="):
        yield owner, [_replaced(tokens, index, index + 1, "=")]


def _declares(tokens: Tokens, index: int) -> bool:
    """Whether the statement around a name declares it, as a variable and not for a loop."""
    begin = tokens.operand_begin(index, frozenset({";", "{", "}"}))
    words = [tokens.text(i) for i in range(begin, index + 1)]
    loop = tokens.text(begin - 1) == "(" and tokens.text(begin - 2) == "for"
    return not loop and "const" not in words and len(words) > 1 and tokens[begin + 1].kind == "name"


def _change_sign(tokens: Tokens) -> Edits:
    """`+` to `-` and back, in indices and in values; `++` to `--` and back."""
    opposite = {"+": "-", "-": "+", "+=": "-=", "-=": "+="}
    for index, owner in _signs(tokens, *opposite):
        yield owner, [_replaced(tokens, index, index + 1, opposite[tokens.text(index)])]
    for index in range(len(tokens)):
        token = tokens[index]
        if token.in_function and token.text in ("++", "--"):
            yield (
                token.owner,
                [_replaced(tokens, index, index + 1, "--" if token.text == "++" else "++")],
            )


def _drop_program_id(tokens: Tokens) -> Edits:
    """Take a block or thread as the first one, and a block as one of one thread."""
    for index in range(len(tokens)):
        token = tokens[index]
        if token.in_function and token.text in ("blockIdx", "threadIdx", "blockDim"):
            text = "1u" if token.text == "blockDim" else "0u"
            yield token.owner, [_replaced(tokens, index, index + 3, text)]


def _change_exchange(tokens: Tokens) -> Edits:
    """Shuffles and votes: without half of the lanes, from another lane, not at all."""
    for index, opening in tokens.calls(r"__(shfl(_\w+)?|any|all|ballot)_sync"):
        owner = tokens[index].owner
        mask, value, *lane = tokens.arguments(opening)
        yield owner, [_replaced(tokens, *mask, f"({tokens.between(*mask)}) >> 16")]
        end = tokens.partner(opening) + 1
        yield owner, [_replaced(tokens, index, end, f"({tokens.between(*value)})")]
        if lane:
            yield owner, [_replaced(tokens, *lane[0], f"({tokens.between(*lane[0])}) ^ 1")]


_OPERATORS: dict[str, Callable[[Tokens], Edits]] = {
    "barrier": _drop_barrier,
    "mask": _drop_mask,
    "bound": _shift_comparison,
    "reversed": _reverse_comparison,
    "condition": _negate_condition,
    "loop": _shift_loop,
    "index": _shift_index,
    "atomic": _make_atomic_plain,
    "exchange": _change_exchange,
    "stride": _swap_strides,
    "accumulator": _spoil_accumulator,
    "program": _drop_program_id,
    "sign": _change_sign,
}
