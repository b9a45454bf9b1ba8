"""The tool that plants mistakes in kernels: what it plants, and how it judges what it sees."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.gpu.mutants import cuda_operators, python_operators, report, survivors
from tests.gpu.mutants.mutant import Edit, Mistake, Mutant, apply, named
from tests.gpu.mutants.report import Result
from tests.gpu.mutants.tokens import Tokens
from tests.gpu.mutants.trials import STILLBORN, SURVIVED, Outcome, outcomes, run_cases

ROOT = Path(__file__).parents[2]


def _planted(mutants: list[Mutant], operator: str) -> list[str]:
    """What stands after "=>" for each mutant of an operator."""
    return [mutant.site.split(" => ")[1] for mutant in mutants if mutant.operator == operator]


def _in_triton(body: str, operator: str, signature: str = "x, out, n") -> list[str]:
    code = f"@triton.jit\ndef kernel({signature}):\n{textwrap.indent(body, '    ')}\n"
    return _planted(python_operators.mutants("toy.py", code), operator)


def _in_launch(body: str, operator: str) -> list[str]:
    code = f"@triton.jit\ndef kernel(x):\n    pass\n\n\ndef launch(x):\n    {body}\n"
    return _planted(python_operators.mutants("toy.py", code), operator)


def _in_cuda(body: str, operator: str, signature: str = "float* x, int n") -> list[str]:
    code = f"__device__ void kernel({signature}) {{\n  {body}\n}}\n"
    return _planted(cuda_operators.mutants("toy.cu", code), operator)


@pytest.mark.parametrize(
    ("operator", "body", "expected"),
    [
        ("barrier", "tl.debug_barrier()", ["None"]),
        (
            "mask",
            "tl.load(x, mask=i < n, other=0.0)",
            ["tl.load(x, mask=None, other=None)"],
        ),
        ("mask", "m = in_n & in_k", ["m = (in_n)", "m = (in_k)"]),
        ("bound", "m = i < n", ["m = i <= n", "m = i < n - 1"]),
        ("bound", "m = i >= n", ["m = i > n", "m = i >= n - 1"]),
        ("reversed", "m = i <= n", ["m = i >= n"]),
        ("condition", "if a:\n    pass", ["if not (a):"]),
        (
            "condition",
            "y = b if a == 0 else c",
            [
                "y = b if not (a == 0) else c",
                "y = b if a != 0 else c",
            ],
        ),
        ("condition", "y = tl.where(a, b, c)", ["y = tl.where(a, c, b)"]),
        ("condition", "y = a and b", ["y = a or b"]),
        (
            "loop",
            "for i in range(a, b):\n    pass",
            [
                f"for i in range({bounds}):"
                for bounds in ("(a + 1), b", "(a - 1), b", "a, (b + 1)", "a, (b - 1)")
            ],
        ),
        ("index", "tl.store(x, y)", ["tl.store((x + 1), y)", "tl.store((x - 1), y)"]),
        (
            "index",
            "i = tl.arange(0, 4)",
            ["i = (tl.arange(0, 4) + 1)", "i = (tl.arange(0, 4) - 1)"],
        ),
        (
            "atomic",
            "tl.atomic_add(x, y, mask=m)",
            ["tl.store(x, tl.load(x, mask=m) + y, mask=m)"],
        ),
        (
            "accumulator",
            "s = tl.zeros((4,), tl.float32)",
            ["s = tl.full((4,), 1, tl.float32)"],
        ),
        ("accumulator", "s += y", ["s = y"]),
        ("accumulator", "s = tl.dot(x, y, s)", ["s = tl.dot(x, y, None)"]),
        ("sign", "i = a + b", ["i = a - b"]),
        ("sign", "s += a", ["s -= a"]),
        (
            "program",
            "pid = tl.program_id(0)\nrow = pid // n",
            ["pid = (tl.program_id(0) * 0)", "row = (pid // n) * 0", "row = (pid)"],
        ),
    ],
)
def test_mistakes_in_triton(operator, body, expected):
    assert _in_triton(body, operator) == expected


def test_strides_of_triton():
    swapped = _in_triton("pass", "stride", "x, stride_n, n, stride_k, stride_l")
    assert [line.split("(")[1] for line in swapped] == [
        "x, stride_k, n, stride_n, stride_l):",
        "x, stride_n, n, stride_l, stride_k):",
    ]


@pytest.mark.parametrize(
    ("operator", "body", "expected"),
    [
        (
            "grid",
            "kernel[(2, n)](x)",
            [f"kernel[tuple(size {step} for size in (2, n))](x)" for step in ("+ 1", "- 1")],
        ),
        (
            "grid",
            'launch("kernel", x, 2, 32, 0, *x.stride())',
            [
                f'launch("kernel", x, {sizes}, *x.stride())'
                for sizes in (
                    *("(2 + 1), 32, 0", "(2 - 1), 32, 0"),
                    *("2, (32 + 1), 0", "2, (32 - 1), 0"),
                    *("2, 32, (0 + 1)", "2, 32, (0 - 1)"),
                )
            ],
        ),
        ("loop", "any(range(n))", []),
        ("bound", "y = 1 if x > 2 else 0", ["y = 1 if x >= 2 else 0", "y = 1 if x > 2 + 1 else 0"]),
        ("index", "y = tl.load(x)", []),
    ],
)
def test_mistakes_in_launches(operator, body, expected):
    assert _in_launch(body, operator) == expected


@pytest.mark.parametrize(
    ("operator", "body", "expected"),
    [
        ("barrier", "__syncthreads();", ["static_cast<void>(0);"]),
        ("barrier", "__syncwarp(mask);", ["static_cast<void>(0);"]),
        ("mask", "if (i < n) y = 1;", ["if (true) y = 1;"]),
        ("mask", "y = i < n ? a : b;", ["y = true ? a : b;"]),
        ("mask", "y = a && b;", ["y = a;", "y = b;"]),
        ("bound", "if (i < n) return;", ["if (i <= n) return;", "if (i < n - 1) return;"]),
        ("bound", "y = static_cast<int>(i);", []),
        ("reversed", "if (i >= n && a) return;", ["if (i <= n && a) return;"]),
        ("condition", "if (a) return;", ["if (!(a)) return;"]),
        ("condition", "y = a == b;", ["y = a != b;"]),
        ("condition", "y = f(a ? b : c);", ["y = f(!(a) ? b : c);"]),
        ("loop", "for (int i = 0; i; ++i) f();", [
            "for (int i = 0 + 1; i; ++i) f();", "for (int i = 0 - 1; i; ++i) f();",
        ]),
        ("index", "float y[3];", []),
        ("index", "y = x[i] + a.b[2];", [
            "y = x[i + 1] + a.b[2];", "y = x[i - 1] + a.b[2];",
            "y = x[i] + a.b[2 + 1];", "y = x[i] + a.b[2 - 1];",
        ]),
        ("atomic", "atomicAdd(x + i, f(a, b));", ["(*(x + i) += (f(a, b)));"]),
        (
            "exchange",
            "y = __shfl_xor_sync(ALL, x, lanes);",
            [
                "y = __shfl_xor_sync((ALL) >> 16, x, lanes);",
                "y = (x);",
                "y = __shfl_xor_sync(ALL, x, (lanes) ^ 1);",
            ],
        ),
        ("exchange", "y = __any_sync(ALL, x);", ["y = __any_sync((ALL) >> 16, x);", "y = (x);"]),
        ("accumulator", "float s = 0, t = a;", ["float s = {3}, t = a;"]),
        ("accumulator", "for (int i = 0; i; f()) s = 0;", []),
        ("accumulator", "s += a;", ["s = a;"]),
        ("program", "i = blockIdx.x + j;", ["i = 0u + j;"]),
        ("sign", "i = a + b - -c;", ["i = a - b - -c;", "i = a + b + -c;"]),
        ("sign", "++i;", ["--i;"]),
        ("sign", "// a + b, and in a string\n  f(\"a + b\");", []),
    ],
)  # fmt: skip
def test_mistakes_in_cuda(operator, body, expected):
    assert _in_cuda(body, operator) == expected


def test_strides_of_cuda():
    swapped = _in_cuda("", "stride", "const float* x, int64_t row_stride, int64_t column_stride")
    assert [line.split("(")[1] for line in swapped] == [
        "const float* x, int64_t column_stride, int64_t row_stride) {"
    ]


def test_atomics_without_a_plain_form_are_refused():
    with pytest.raises(NotImplementedError, match="atomicInc"):
        _in_cuda("atomicInc(x, 3);", "atomic")


def test_only_functions_of_the_device_are_changed():
    code = textwrap.dedent("""
        #define MACRO(a) a + 1
        namespace hessx {
        inline int host(int a) { return a + 1; }
        template <class Real>
        struct Table {
          HESSX_HD explicit Table(int n) : size(n - 1) {}
          __device__ int operator[](int i) const { return i + 1; }
          int host(int a) const { return a + 1; }
          Real sum = 0;
          int size;
        };
        extern "C" __global__ void __launch_bounds__(32) kernel(int n) { f(n + 1); }
        }
        """)
    owners = [(mutant.function, mutant.operator) for mutant in cuda_operators.mutants("a.cu", code)]
    assert sorted(owners) == [
        ("Table", "accumulator"),
        ("Table", "sign"),
        ("kernel", "sign"),
        ("operator[]", "sign"),
    ]


def test_tokens_of_a_number_with_an_exponent():
    tokens = Tokens("x = 0x1p-24f + 1.5e-3f;")
    assert [tokens.text(i) for i in range(len(tokens))] == [
        "x",
        "=",
        "0x1p-24f",
        "+",
        "1.5e-3f",
        ";",
    ]


def test_edits_and_names():
    source = "a = b\na = b\n"
    mistake = [Edit(4, 5, "c")], [Edit(10, 11, "c")], [Edit(4, 5, "c")]
    assert apply(source, [Edit(4, 5, "c"), Edit(10, 11, "d")]) == "a = c\na = d\n"
    mutants = named("p", source, [("f", Mistake("op", tuple(edits))) for edits in mistake])
    assert [mutant.site for mutant in mutants] == ["a = b => a = c", "a = b => a = c (2)"]
    assert [mutant.line for mutant in mutants] == [1, 2]
    assert mutants[0].key == ("p::f", "op", "a = b => a = c")


def _raise(error: BaseException):
    raise error


def _work_for_ever():
    while True:
        pass


def _trial(**cases):
    return lambda: run_cases(cases, lambda error: type(error).__name__, seconds=0.3)


def test_outcomes_of_trials():
    trials = [
        _trial(a=lambda: None, b=lambda: _raise(ValueError("first\nsecond"))),
        _trial(a=_work_for_ever),
        _trial(a=lambda: None),
        _trial(a=os.abort),
    ]
    ended = dict(outcomes(trials, 2))
    assert (ended[0].verdict, ended[0].case, ended[0].message) == ("ValueError", "b", "first")
    assert list(ended[0].seconds) == ["a"]
    assert ended[1].verdict == "hang"
    assert ended[2].verdict == SURVIVED
    assert (ended[3].verdict, ended[3].message) == ("crash", "signal 6")
    assert [ended[i].caught for i in range(4)] == [True, True, False, True]
    with pytest.raises(RuntimeError, match="exit status 3"):
        list(outcomes([_trial(a=lambda: os._exit(3))], 1))


def _result(site: str, verdict: str, reason: str = "") -> Result:
    return Result(Mutant("p", "f", "op", 1, site, ()), Outcome(verdict), reason)


def test_counts_and_share():
    results = [_result(str(i), "value") for i in range(18)]
    results += [
        _result("a", SURVIVED, "equivalent: x"),
        _result("b", SURVIVED, "undetectable here: y"),
    ]
    results += [_result("c", "race"), _result("d", STILLBORN)]
    counts = report.Counts(results)
    assert (counts.mutants, counts.equivalent, counts.caught, counts.survived) == (21, 1, 19, 1)
    assert counts.stillborn == 1
    assert counts.share == 19 / 20
    lines = "\n".join(report.table(results))
    assert "95.0%  value 18, race 1" in lines
    assert "not counted: 1 " in lines


def test_complaints():
    def of(results, listed):
        reasons = {("p::f", "op", site): "equivalent: x" for site in listed}
        return list(report.complaints(results, reasons, {"p::f"}))

    caught, survived = _result("a", "value"), _result("b", SURVIVED, "equivalent: x")
    assert of([caught, survived], ["b"]) == []
    assert "no reason in the list: p::f, op: b" in of([caught, survived], [])[0]
    assert "but caught (value)" in of([caught], ["a"])[0]
    assert "no such mutant: p::f, op: c" in of([caught], ["c"])[0]
    missed = _result("b", SURVIVED, "undetectable here: x")
    assert "only 50.0%" in of([caught, missed], ["b"])[0]


def test_list_of_survivors_is_refused_without_reasons(tmp_path):
    path = tmp_path / "survivors.csv"
    path.write_text("kernel,operator,site,reason\nk,o,s,because\n")
    with pytest.raises(ValueError, match="reason must begin with"):
        survivors.read(path)
    path.write_text("kernel,operator,site,reason\n" + "k,o,s,equivalent: x\n" * 2)
    with pytest.raises(ValueError, match="twice"):
        survivors.read(path)


def test_every_listed_survivor_is_a_mutant():
    from tests.gpu.mutants import runner

    known = {mutant.key for mutants in runner.all_mutants().values() for mutant in mutants}
    assert set(survivors.read()) <= known


def _command(*options: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "tests.gpu.mutants", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_a_sample_is_caught():
    pytest.importorskip("triton")
    lines = _command("--sample", "4").splitlines()
    assert any(line.startswith("all ") and "100.0%" in line for line in lines)


@pytest.mark.slow
def test_mutants_are_caught():
    pytest.importorskip("triton")
    _command()
