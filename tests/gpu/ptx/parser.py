"""PTX text made a `Module`. What is not understood is an error."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from tests.gpu.ptx import datatypes
from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.module import (
    Address,
    Entry,
    Immediate,
    Instruction,
    Module,
    Negated,
    Operand,
    Pair,
    Parameter,
    Register,
    Sink,
    Special,
    Symbol,
    Variable,
    Vector,
)

_SPECIALS = {
    *(f"%{kind}.{axis}" for kind in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"),
    "%laneid",
    "%warpid",
}

# Numbers of lines for a debugger, and a comment's text: nothing that runs.
_IGNORED = re.compile(r"//[^\n]*|^\s*\.(?:loc|file)\s[^\n]*", re.MULTILINE)
_TOKEN = re.compile(r'"[^"\n]*"|[.%$\w](?:[\w$.%]|::)*|[{}\[\]()<>,;:+\-@!|=]')
_COMMENT_OF_LINES = re.compile(r"/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True)
class _Token:
    text: str
    line: int


@lru_cache(maxsize=64)
def parse(text: str) -> Module:
    """Parse the text of one PTX module."""
    return _Parser(text).module()


def _tokens(text: str) -> Iterator[_Token]:
    text = _COMMENT_OF_LINES.sub(lambda match: "\n" * match[0].count("\n"), text)
    for number, line in enumerate(_IGNORED.sub("", text).split("\n"), 1):
        if not line or line.isspace():
            continue
        end = 0
        for match in _TOKEN.finditer(line):
            if match.start() > end:
                _expect_blank(line[end : match.start()], number)
            yield _Token(match[0], number)
            end = match.end()
        _expect_blank(line[end:], number)


def _expect_blank(text: str, line: int) -> None:
    if text.strip():
        raise UnsupportedError(f"line {line}: {text.strip()!r} is no PTX that is known here")


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0

    # Tokens

    def _peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at].text if at < len(self._tokens) else ""

    def _next(self) -> str:
        if self._at >= len(self._tokens):
            raise UnsupportedError("the text ends in the middle of a statement")
        self._at += 1
        return self._tokens[self._at - 1].text

    def _line(self) -> int:
        return self._tokens[min(self._at, len(self._tokens) - 1)].line

    def _error(self, what: str) -> UnsupportedError:
        return UnsupportedError(f"line {self._line()}: {what}")

    def _accept(self, text: str) -> bool:
        if self._peek() != text:
            return False
        self._at += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._error(f"expected {text!r}, found {self._peek()!r}")

    def _integer(self) -> int:
        sign = -1 if self._accept("-") else 1
        text = self._next()
        try:
            return sign * int(text, 0)
        except ValueError:
            raise self._error(f"{text!r} is no integer") from None

    def _integers(self) -> tuple[int, ...]:
        values = [self._integer()]
        while self._accept(","):
            values.append(self._integer())
        return tuple(values)

    # Module

    def module(self) -> Module:
        module = Module()
        while self._peek():
            word = self._next()
            if word in (".visible", ".weak", ".extern"):
                continue
            if word == ".version":
                self._next()
            elif word == ".target":
                self._next()
                while self._accept(","):
                    self._next()
            elif word == ".address_size":
                if self._integer() != 64:
                    raise self._error("addresses must have 64 bits")
            elif word == ".section":
                self._section()
            elif word in (".shared", ".global", ".const"):
                module.variables.append(self._variable(word[1:]))
            elif word == ".entry":
                entry = self._entry()
                module.entries[entry.name] = entry
            else:
                raise self._error(f"{word!r} is not known at module level")
        return module

    def _section(self) -> None:
        self._next()
        self._expect("{")
        depth = 1
        while depth:
            word = self._next()
            depth += (word == "{") - (word == "}")

    def _variable(self, space: str) -> Variable:
        align = self._integer() if self._accept(".align") else None
        type_name = self._type()
        name = self._next()
        size = datatypes.bytes_of(type_name)
        if align is None:
            align = size
        while self._accept("["):
            size *= 0 if self._peek() == "]" else self._integer()
            self._expect("]")
        data = self._initializer(type_name) if self._accept("=") else b""
        self._expect(";")
        return Variable(name, space, align, size, data)

    def _initializer(self, type_name: str) -> bytes:
        if self._accept("{"):
            items = [self._immediate()]
            while self._accept(","):
                items.append(self._immediate())
            self._expect("}")
        else:
            items = [self._immediate()]
        size = datatypes.bytes_of(type_name)
        return b"".join((x.value % 2 ** (8 * size)).to_bytes(size, "little") for x in items)

    def _type(self) -> str:
        word = self._next()
        if word[1:] not in datatypes.WIDTHS:
            raise self._error(f"{word!r} is no type that is known here")
        return word[1:]

    # Kernels

    def _entry(self) -> Entry:
        entry = Entry(self._next())
        self._expect("(")
        while not self._accept(")"):
            entry.parameters.append(self._parameter())
            self._accept(",")
        while not self._accept("{"):
            word = self._next()
            if word == ".reqntid":
                entry.required_threads = self._integers()
            elif word == ".maxntid":
                entry.most_threads = self._integers()
            elif word in (".minnctapersm", ".maxnreg"):
                self._integer()
            else:
                raise self._error(f"{word!r} is not known before a kernel's body")
        _Body(self, entry).parse()
        return entry

    def _parameter(self) -> Parameter:
        self._expect(".param")
        type_name = self._type()
        self._accept(".ptr")
        while self._peek().startswith("."):
            word = self._next()
            if word == ".align":
                self._integer()
            elif word not in (".global", ".shared"):
                raise self._error(f"{word!r} is not known in a parameter")
        name = self._next()
        if self._peek() == "[":
            raise self._error("parameters passed as arrays are not known")
        return Parameter(name, type_name)

    def _immediate(self) -> Immediate:
        negative = self._accept("-")
        text = self._next()
        if match := re.fullmatch(r"0([fFdD])([0-9a-fA-F]+)", text):
            width = 32 if match[1] in "fF" else 64
            if negative or len(match[2]) != width // 4:
                raise self._error(f"{text!r} is no float that is known here")
            return Immediate(int(match[2], 16), width)
        if re.fullmatch(r"\d+\.\d*", text):
            value = float(text) * (-1 if negative else 1)
            return Immediate(struct.unpack("<Q", struct.pack("<d", value))[0], 64)
        try:
            value = int(text.rstrip("U"), 0)
        except ValueError:
            raise self._error(f"{text!r} is no constant that is known here") from None
        return Immediate(-value if negative else value)


class _Body:
    """The body of a kernel; registers belong to the braces they are declared in."""

    def __init__(self, parser: _Parser, entry: Entry) -> None:
        self._parser = parser
        self._entry = entry
        self._scopes: list[dict[str, Register]] = [{}]

    def parse(self) -> None:
        parser, entry = self._parser, self._entry
        while self._scopes:
            word = parser._peek()
            if word == "{":
                parser._next()
                self._scopes.append({})
            elif word == "}":
                parser._next()
                self._scopes.pop()
            elif word == ".reg":
                parser._next()
                self._registers()
            elif word in (".shared", ".local"):
                parser._next()
                entry.variables.append(parser._variable(word[1:]))
            elif word == ".pragma":
                self._pragma()
            elif parser._peek(1) == ":":
                self._label()
            else:
                entry.instructions.append(self._instruction())

    def _registers(self) -> None:
        parser = self._parser
        type_name = parser._type()
        while True:
            name = parser._next()
            if parser._accept("<"):
                for number in range(parser._integer()):
                    self._declare(f"{name}{number}", type_name)
                parser._expect(">")
            else:
                self._declare(name, type_name)
            if parser._accept(";"):
                return
            parser._expect(",")

    def _declare(self, name: str, type_name: str) -> None:
        register = Register(name, len(self._entry.registers), type_name)
        self._entry.registers.append(register)
        self._scopes[-1][name] = register

    def _pragma(self) -> None:
        parser = self._parser
        parser._next()
        text = parser._next()
        if text != '"nounroll"':
            raise parser._error(f"pragma {text} is not known")
        parser._expect(";")

    def _label(self) -> None:
        parser = self._parser
        name = parser._next()
        parser._expect(":")
        if name in self._entry.labels:
            raise parser._error(f"label {name} stands twice")
        self._entry.labels[name] = len(self._entry.instructions)

    def _instruction(self) -> Instruction:
        parser = self._parser
        line = parser._line()
        guard, negated = None, False
        if parser._accept("@"):
            negated = parser._accept("!")
            guard = self._register(parser._next())
        opcode, *modifiers = parser._next().split(".")
        if not re.fullmatch(r"[a-z]\w*", opcode):
            raise parser._error(f"{opcode!r} is no instruction")
        operands = []
        if parser._peek() != ";":
            operands.append(self._operand())
            while parser._accept(","):
                operands.append(self._operand())
        parser._expect(";")
        return Instruction(opcode, tuple(modifiers), tuple(operands), guard, negated, line)

    def _operand(self) -> Operand:
        parser = self._parser
        if parser._accept("{"):
            items = [self._operand()]
            while parser._accept(","):
                items.append(self._operand())
            parser._expect("}")
            return Vector(tuple(items))
        if parser._accept("["):
            return self._address()
        if parser._accept("!"):
            return Negated(self._register(parser._next()))
        first = self._item()
        if not parser._accept("|"):
            return first
        second = self._item()
        if not all(isinstance(x, Register | Sink) for x in (first, second)):
            raise parser._error("a pair of results must be registers")
        return Pair(first, second)

    def _address(self) -> Address:
        parser = self._parser
        base = self._item()
        if not isinstance(base, Register | Symbol | Immediate):
            raise parser._error("an address must start with a register, a variable or a number")
        offset = parser._integer() if parser._accept("+") or parser._peek() == "-" else 0
        parser._expect("]")
        return Address(base, offset)

    def _item(self) -> Operand:
        parser = self._parser
        word = parser._peek()
        if word == "-" or word[:1].isdigit():
            return parser._immediate()
        parser._next()
        if word == "_":
            return Sink()
        if word in _SPECIALS:
            return Special(word)
        if register := self._find(word):
            return register
        if word.startswith("%"):
            raise parser._error(f"register {word} is neither declared nor known")
        if not re.fullmatch(r"[\w$]+", word):
            raise parser._error(f"{word!r} is no operand that is known here")
        return Symbol(word)

    def _find(self, name: str) -> Register | None:
        return next((scope[name] for scope in reversed(self._scopes) if name in scope), None)

    def _register(self, name: str) -> Register:
        register = self._find(name)
        if register is None:
            raise self._parser._error(f"register {name} is not declared")
        return register
