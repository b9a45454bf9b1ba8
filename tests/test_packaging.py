"""What is installed: the stub of the compiled module, wheel and sdist, and builds that fail."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from hessx import backends, nvrtc

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
        # What a test does not ask for is not built, whatever this process was told to build.
        env=os.environ | {"PATH": path, "HESSX_BUILD_CUDA": "0"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def configure(project: Path, **environment: str) -> str:
    """Begin a build that is refused at once; gives what it says."""
    result = subprocess.run(
        [sys.executable, "setup.py", "build_ext"],
        cwd=project,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode != 0
    return result.stdout + result.stderr


def wheel_names(project: Path) -> set[str]:
    (wheel,) = (project / "dist").glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def python_files(project: Path) -> set[str]:
    return {str(path.relative_to(project)) for path in (project / "hessx").rglob("*.py")}


def cuda_sources() -> set[str]:
    """What CuPy compiles where the CUDA module was not built, as files of the package."""
    csrc = ROOT / "csrc"
    return {f"hessx/_csrc/{path.name}" for path in (*csrc.glob("*.cu"), *csrc.glob("*.h"))}


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
    assert python_files(project) | cuda_sources() <= names


def test_failing_compiler_fails_loudly(project):
    result = build(project, "--wheel", CXX="/bin/false")
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert "hessx: the compiled modules could not be built" in output
    assert "HESSX_BUILD_NATIVE=0 pip install ." in output
    assert not list(project.glob("dist/*.whl"))


@pytest.mark.parametrize("option", ["HESSX_BUILD_NATIVE", "HESSX_BUILD_CUDA"])
def test_wrong_build_option_is_refused(project, option):
    assert f"{option} must be 0 or 1, got 'yes'" in configure(project, **{option: "yes"})


def test_cuda_without_its_compiler_is_refused(project):
    absent = dict(CUDACXX="", CUDA_PATH="", CUDA_HOME="/nonexistent", PATH="/nonexistent")
    output = configure(project, HESSX_BUILD_CUDA="1", **absent)
    assert "HESSX_BUILD_CUDA=1 needs the CUDA compiler nvcc, 12.8 or later" in output
    assert "looked for as nvcc, /nonexistent/bin/nvcc" in output
    assert "pip install 'hessx[gpu]'" in output


def test_a_named_cuda_compiler_is_the_only_candidate(project):
    named = dict(CUDACXX="/nonexistent/nvcc", CUDA_HOME="/usr/local/cuda")
    output = configure(project, HESSX_BUILD_CUDA="1", **named)
    assert "it was looked for as /nonexistent/nvcc.\n" in output


@pytest.mark.parametrize("architectures", ["90;80", "80;90a"])
def test_wrong_cuda_architectures_are_refused(project, architectures):
    environment = dict(
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        HESSX_BUILD_NATIVE="0",
        HESSX_BUILD_CUDA="1",
        HESSX_CUDA_ARCHITECTURES=architectures,
        CUDACXX=shutil.which("false"),
    )
    output = configure(project, **environment)
    assert "HESSX_CUDA_ARCHITECTURES must be whole numbers in ascending order" in output
    assert f"got {architectures}" in " ".join(output.split())


@pytest.mark.slow
def test_failing_cuda_compiler_fails_loudly(project):
    false = shutil.which("false")
    result = build(project, "--wheel", HESSX_BUILD_CUDA="1", HESSX_BUILD_NATIVE="0", CUDACXX=false)
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert "hessx: the compiled modules could not be built" in output
    assert "They need a C++17 compiler, nvcc 12.8 or later" in output
    assert "HESSX_BUILD_CUDA=0 pip install ." in output
    assert not list(project.glob("dist/*.whl"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_wheel_with_cuda(project, tmp_path):
    """The module has code for the GPUs that it names, needs no package and loads with no driver."""
    result = build(project, "--wheel", HESSX_BUILD_CUDA="1", HESSX_BUILD_NATIVE="0")
    assert result.returncode == 0, result.stderr
    (wheel,) = (project / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".so"))
        module = archive.extract(name, tmp_path)
    assert re.fullmatch(r"hessx/_cuda\..*\.so", name)
    needed = subprocess.run(["ldd", module], capture_output=True, text=True, check=True).stdout
    assert "cuda" not in needed.replace(module, "").lower()
    spec = importlib.util.spec_from_file_location("_cuda", module)
    built = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(built)
    assert (built.device, built.architectures) == ("cuda", (80, 90, 100, 120))
    assert {name for name in dir(built) if name.startswith("hessx_")} == set(nvrtc.signatures())


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
    stub = {"hessx/_native.pyi", "hessx/py.typed"}
    assert python_files(project) | cuda_sources() | stub <= names
    assert len([name for name in names if re.fullmatch(r"hessx/_native\..*\.so", name)]) == 1
    metadata = re.compile(r"hessx-[^/]*\.dist-info/")
    assert all(name.startswith("hessx/") or metadata.match(name) for name in names)


@pytest.mark.slow
def test_strict_editable_install_links_the_cuda_sources(project, tmp_path):
    """The package is then a folder of links, without csrc beside it."""
    site = tmp_path / "site"
    installed = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"),
            *("--target", str(site), "--config-settings", "editable_mode=strict"),
            *("--editable", str(project)),
        ],
        env=os.environ | {"HESSX_BUILD_NATIVE": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert installed.returncode == 0, installed.stderr
    (links,) = (path.read_text().strip() for path in site.glob("*.pth"))
    code = (
        "import hessx, hessx.nvrtc; hessx.info()\n"
        "print(hessx.__file__, hessx.nvrtc.source_folder())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": links},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    file, sources = map(Path, result.stdout.split())
    assert file.is_relative_to(links)
    assert sources == file.parent / "_csrc"
    assert {path.name for path in sources.iterdir()} == {Path(name).name for name in cuda_sources()}


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
