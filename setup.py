"""Builds the compiled modules with CMake; everything else is in pyproject.toml."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def requested(variable: str, default: str) -> bool:
    """Read an environment variable that is 0 or 1."""
    value = os.environ.get(variable, default)
    if value not in ("0", "1"):
        raise SystemExit(f"{variable} must be 0 or 1, got {value!r}")
    return value == "1"


NATIVE = requested("HESSX_BUILD_NATIVE", "1")
CUDA = requested("HESSX_BUILD_CUDA", "0")


class CMakeBuild(build_ext):
    """Builds the modules with CMake and Ninja, and stops with a clear message if that fails."""

    def build_extensions(self) -> None:
        """Configure once, then build each module and put it where setuptools expects it."""
        import pybind11

        self.build_dir = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        target = Path(self.get_ext_fullpath("hessx._native")).resolve()
        options = {
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": target.parent,
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "HESSX_BUILD_NATIVE": "ON" if NATIVE else "OFF",
            "HESSX_BUILD_CUDA": "ON" if CUDA else "OFF",
            "HESSX_WERROR": os.environ.get("HESSX_WERROR", "OFF"),
        }
        if CUDA:
            options["CMAKE_CUDA_COMPILER"] = find_nvcc()
        if architectures := os.environ.get("HESSX_CUDA_ARCHITECTURES"):
            options["HESSX_CUDA_ARCHITECTURES"] = architectures
        # A fresh cache: isolated builds put pybind11 in a new folder each time.
        configure = ["cmake", "--fresh", "-G", "Ninja", "-S", str(ROOT), "-B", str(self.build_dir)]
        run([*configure, *(f"-D{name}={value}" for name, value in options.items())])
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        """Compile one module."""
        run(["cmake", "--build", str(self.build_dir), "--target", ext.name.rpartition(".")[2]])


class BuildWithCudaSources(build_py):
    """Adds csrc/*.cu and their headers to the package: CuPy compiles them where it runs.

    An editable installation finds them in this tree, a strict one by links.
    """

    def run(self) -> None:
        """Copy the Python files, then the sources."""
        super().run()
        if not self.editable_mode:
            for source, copy in self.cuda_sources().items():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """List the files of the package, the sources among them."""
        return [*super().get_outputs(include_bytecode), *map(str, self.cuda_sources().values())]

    def get_output_mapping(self) -> dict[str, str]:
        """Map each file of the package to its origin, for the links of a strict install."""
        sources = {str(copy): str(source) for source, copy in self.cuda_sources().items()}
        return super().get_output_mapping() | sources

    def cuda_sources(self) -> dict[Path, Path]:
        """Map each source to its place in the package."""
        folder = Path(self.build_lib) / "hessx" / "_csrc"
        sources = [*(ROOT / "csrc").glob("*.cu"), *(ROOT / "csrc").glob("*.h")]
        return {source: folder / source.name for source in sources}


def find_nvcc() -> str:
    """Find the CUDA compiler, or stop; with CUDACXX it is that one or none."""
    roots = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    candidates = ["nvcc", *(f"{root}/bin/nvcc" for root in roots)]
    if named := os.environ.get("CUDACXX"):
        candidates = [named]
    for candidate in candidates:
        if nvcc := shutil.which(candidate):
            return nvcc
    raise SystemExit(
        "\nhessx: HESSX_BUILD_CUDA=1 needs the CUDA compiler nvcc, 12.8 or later; it was looked"
        f" for as {', '.join(candidates)}.\n"
        "Name it with CUDACXX=/path/to/nvcc. Without HESSX_BUILD_CUDA, CuPy compiles the same\n"
        "kernels when they are first used: pip install 'hessx[gpu]', or 'hessx[gpu-cuda12]' for a\n"
        "torch with CUDA 12.\n"
    )


def run(command: list[str]) -> None:
    """Run a step of the build, or stop."""
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        needed, without = ["a C++17 compiler"], []
        if NATIVE:
            needed.append("OpenMP")
            without.append("HESSX_BUILD_NATIVE=0")
        if CUDA:
            needed.append("nvcc 12.8 or later")
            without.append("HESSX_BUILD_CUDA=0")
        raise SystemExit(
            f"\nhessx: the compiled modules could not be built ({error}).\n"
            f"They need {', '.join(needed)}; the messages above say what failed.\n"
            f"To install without them, on purpose: {' '.join(without)} pip install .\n"
        ) from error


names = [name for name, wanted in (("_native", NATIVE), ("_cuda", CUDA)) if wanted]
setup(
    ext_modules=[Extension(f"hessx.{name}", sources=[]) for name in names],
    cmdclass={"build_ext": CMakeBuild, "build_py": BuildWithCudaSources},
)
