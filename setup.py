"""Builds the compiled module hessx._native with CMake; everything else is in pyproject.toml."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class CMakeBuild(build_ext):
    """Builds the extension with CMake and Ninja, and stops with a clear message if that fails."""

    def build_extension(self, ext: Extension) -> None:
        """Configure, compile and put the module where setuptools expects it."""
        import pybind11

        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build_dir = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        options = {
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": target.parent,
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "HESSX_WERROR": os.environ.get("HESSX_WERROR", "OFF"),
        }
        # A fresh cache: isolated builds put pybind11 in a new folder each time.
        configure = ["cmake", "--fresh", "-G", "Ninja", "-S", str(ROOT), "-B", str(build_dir)]
        configure += [f"-D{name}={value}" for name, value in options.items()]
        try:
            subprocess.run(configure, check=True)
            subprocess.run(["cmake", "--build", str(build_dir)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(
                f"\nhessx: the compiled module could not be built ({error}).\n"
                "It needs a C++17 compiler with OpenMP; the messages above say what failed.\n"
                "To install without it, on purpose: HESSX_BUILD_NATIVE=0 pip install .\n"
            ) from error


native = os.environ.get("HESSX_BUILD_NATIVE", "1")
if native not in ("0", "1"):
    raise SystemExit(f"HESSX_BUILD_NATIVE must be 0 or 1, got {native!r}")

setup(
    ext_modules=[Extension("hessx._native", sources=[])] if native == "1" else [],
    cmdclass={"build_ext": CMakeBuild},
)
