"""What is installed: the stub of the compiled module, wheel and sdist, and builds that fail."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from hessx import backends

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("csrc", "hessx", "CMakeLists.txt", "LICENSE", "MANIFEST.in", "README.md")
SOURCES += ("constraints.txt", "pyproject.toml", "setup.py")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Copy the sources of the project, without anything that was built."""
    copy = tmp_path / "hessx"
    copy.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            built = shutil.ignore_patterns("*.so", "__pycache__")
            shutil.copytree(source, copy / name, ignore=built)
        else:
            shutil.copy(source, copy / name)
    return copy


def build(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Build with the packages of this environment, cmake and ninja among them."""
    bin_dir = Path(sys.executable).parent
    path = f"{bin_dir}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *arguments],
        cwd=project,
        env=os.environ | {"PATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def wheel_names(project: Path) -> set[str]:
    (wheel,) = (project / "dist").glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def python_files(project: Path) -> set[str]:
    return {str(path.relative_to(project)) for path in (project / "hessx").rglob("*.py")}


def test_stub_matches_the_compiled_module():
    """Same functions, same arguments in the same order."""
    stub = ast.parse((ROOT / "hessx" / "_native.pyi").read_text())
    declared = {
        node.name: [argument.arg for argument in node.args.args]
        for node in stub.body
        if isinstance(node, ast.FunctionDef)
    }
    native = backends.native()
    built = {}
    for name in dir(native):
        if not name.startswith("__"):
            signature = getattr(native, name).__doc__.splitlines()[0]
            inside = signature[signature.index("(") : signature.rindex(" -> ")]
            built[name] = re.findall(r"(\w+): ", inside)
    assert built == declared


def test_pure_python_wheel_is_an_explicit_choice(project):
    result = build(project, "--wheel", HESSX_BUILD_NATIVE="0")
    assert result.returncode == 0, result.stderr
    names = wheel_names(project)
    assert not any(name.endswith(".so") for name in names)
    assert python_files(project) <= names


def test_failing_compiler_fails_loudly(project):
    result = build(project, "--wheel", CXX="/bin/false")
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert "hessx: the compiled module could not be built" in output
    assert "HESSX_BUILD_NATIVE=0 pip install ." in output
    assert not list(project.glob("dist/*.whl"))


def test_wrong_build_option_is_refused(project):
    result = build(project, "--wheel", HESSX_BUILD_NATIVE="yes")
    assert result.returncode != 0
    assert "HESSX_BUILD_NATIVE must be 0 or 1, got 'yes'" in result.stdout + result.stderr


@pytest.mark.slow
def test_sdist_and_wheel_hold_what_they_should(project):
    """The wheel is built from the sdist, so that a file missing there fails the build."""
    result = build(project)
    assert result.returncode == 0, result.stderr
    (sdist,) = (project / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    sources = {f"csrc/{path.name}" for path in (ROOT / "csrc").iterdir()}
    needed = {"CMakeLists.txt", "LICENSE", "setup.py", "hessx/_native.pyi", "hessx/py.typed"}
    assert sources | needed | python_files(project) <= inside
    assert not any(name.startswith(("tests", "bench")) for name in inside)

    names = wheel_names(project)
    assert python_files(project) | {"hessx/_native.pyi", "hessx/py.typed"} <= names
    assert len([name for name in names if re.fullmatch(r"hessx/_native\..*\.so", name)]) == 1
    metadata = re.compile(r"hessx-[^/]*\.dist-info/")
    assert all(name.startswith("hessx/") or metadata.match(name) for name in names)


@pytest.mark.slow
def test_installs_in_an_isolated_build(project, tmp_path):
    """`pip install .` as a user runs it; torch is taken from this environment, it is large."""
    site = tmp_path / "site"
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(site), str(project)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert installed.returncode == 0, installed.stderr
    code = "import hessx; print(hessx.__file__); print(hessx.info().backends['native'])"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    file, native = result.stdout.splitlines()
    assert Path(file).is_relative_to(site)
    assert native.startswith("C++, CPU, level ")
