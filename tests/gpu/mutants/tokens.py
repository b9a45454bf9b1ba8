"""CUDA C++ as tokens: enough to find operators, calls and functions in formatted sources.

This is no parser. It relies on clang-format: a binary operator has a space on either side, the
angle brackets of a template have not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_PATTERN = re.compile(
    r"""
    (?P<skipped> //[^\n]* | /\*.*?\*/ | ^[ \t]*\#(?:\\\n|[^\n])* | \s+ )
  | (?P<string>  "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' )
  | (?P<number>  (?:0x[\da-fA-F]+(?:p[+-]?\d+)? | \d+\.?\d*(?:e[+-]?\d+)? ) [a-zA-Z]* )
  | (?P<name>    [A-Za-z_]\w* )
  | (?P<sign>    <<= | >>= | <=> | :: | -> | \+\+ | -- | && | \|\| | [-+*/%<>=!&|^]= | << | >> | . )
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_OPENING = {"(": ")", "[": "]", "{": "}"}
_CLOSING = frozenset(_OPENING.values())
_MARKS = frozenset({"__global__", "__device__", "HESSX_HD"})
_SCOPES = frozenset({"class", "struct"})


@dataclass(frozen=True)
class Token:
    """A name, number, string or sign at characters `start` to `end` of a source.

    Attributes:
        owner: The device function it belongs to, signature included; the class, for members; else
            empty.
        in_function: Whether the owner is a function.
    """

    text: str
    kind: str
    start: int
    end: int
    owner: str = ""
    in_function: bool = False


class Tokens:
    """The tokens of a source, without comments and directives of the preprocessor."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._tokens = [
            Token(match[0], match.lastgroup, *match.span())
            for match in _PATTERN.finditer(source)
            if match.lastgroup != "skipped"
        ]
        self._partner = self._partners()
        self._assign_owners()

    def __getitem__(self, index: int) -> Token:
        return self._tokens[index]

    def __len__(self) -> int:
        return len(self._tokens)

    def text(self, index: int) -> str:
        """Text of a token; nothing beyond the ends."""
        return self._tokens[index].text if 0 <= index < len(self._tokens) else ""

    def partner(self, index: int) -> int:
        """Index of the bracket that belongs to one."""
        return self._partner[index]

    def between(self, begin: int, end: int) -> str:
        """Source of the tokens `begin` to `end`, the last one excluded."""
        return self.source[self[begin].start : self[end - 1].end] if begin < end else ""

    def is_binary(self, index: int) -> bool:
        """Whether a sign stands between two operands."""
        token = self[index]
        return self.source[token.start - 1].isspace() and self.source[token.end].isspace()

    def operand_begin(self, index: int, ends: frozenset[str]) -> int:
        """Index of the first token of what stands to the left, up to one of `ends`."""
        while index > 0:
            before = self.text(index - 1)
            if before in _OPENING or before in ends:
                return index
            index = self.partner(index - 1) if before in _CLOSING else index - 1
        return index

    def operand_end(self, index: int, ends: frozenset[str]) -> int:
        """Index after the last token of what stands to the right, up to one of `ends`."""
        index += 1
        while index < len(self):
            if self.text(index) in _CLOSING or self.text(index) in ends:
                return index
            index = (self.partner(index) if self.text(index) in _OPENING else index) + 1
        return index

    def arguments(self, opening: int) -> list[tuple[int, int]]:
        """Begin and end of each argument between parentheses."""
        closing = self.partner(opening)
        arguments = []
        begin = opening + 1
        while begin < closing:
            end = self.operand_end(begin - 1, frozenset({","}))
            arguments.append((begin, end))
            begin = end + 1
        return arguments

    def calls(self, name: str) -> Iterator[tuple[int, int]]:
        """Index of each call's name, and of its opening parenthesis, in device functions."""
        for index, token in enumerate(self._tokens[:-1]):
            if token.in_function and re.fullmatch(name, token.text) and self.text(index + 1) == "(":
                yield index, index + 1

    def _partners(self) -> dict[int, int]:
        partners: dict[int, int] = {}
        open_brackets: list[int] = []
        for index, token in enumerate(self._tokens):
            if token.text in _OPENING:
                open_brackets.append(index)
            elif token.text in _CLOSING:
                opening = open_brackets.pop()
                partners[opening], partners[index] = index, opening
        return partners

    def _assign_owners(self) -> None:
        """Give tokens their functions; a body of braces outside one opens a scope or is one."""
        index = begin = 0
        scopes: list[tuple[int, str]] = []
        while index < len(self):
            text = self.text(index)
            if scopes and index == scopes[-1][0]:
                scopes.pop()
                begin = index + 1
            elif text == ";":
                self._own(begin, index, scopes[-1][1] if scopes else "", in_function=False)
                begin = index + 1
            elif text in ("(", "["):
                index = self.partner(index)
            elif text == "{":
                declaration = [self.text(i) for i in range(begin, index)]
                closing = self.partner(index)
                if "namespace" in declaration or (
                    "extern" in declaration and "(" not in declaration
                ):
                    scopes.append((closing, ""))
                    begin = index + 1
                elif "(" in declaration:
                    marked = _MARKS.intersection(declaration)
                    name = self._function_name(begin, index) if marked else ""
                    self._own(begin, closing + 1, name, in_function=True)
                    index, begin = closing, closing + 1
                elif _SCOPES.intersection(declaration):
                    scopes.append((closing, self._class_name(begin, index)))
                    begin = index + 1
                else:
                    # Braces of an initialiser.
                    index = closing
            index += 1

    def _own(self, begin: int, end: int, owner: str, *, in_function: bool) -> None:
        for index in range(begin, end):
            token = self[index]
            self._tokens[index] = Token(
                token.text, token.kind, token.start, token.end, owner, in_function and bool(owner)
            )

    def _function_name(self, begin: int, end: int) -> str:
        for index in range(begin, end):
            if self.text(index) == "operator":
                return self.between(index, index + 3).removesuffix("(")
            if self.text(index) == "(" and self.text(index - 1) != "__launch_bounds__":
                return self.text(index - 1)
        return ""

    def _class_name(self, begin: int, end: int) -> str:
        for index in range(begin, end):
            # The keyword also introduces parameters of templates.
            if self.text(index) in _SCOPES and self.text(index + 2) not in (">", ",", "="):
                return self.text(index + 1)
        return ""
