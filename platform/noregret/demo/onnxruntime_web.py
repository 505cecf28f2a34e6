"""onnxruntime-web's files, which the digits page runs models with: fetched once into the data
directory, for they are larger than all of this repository, and served from there, for the page
loads nothing foreign.

npm brings the package from whichever registry it is set up for. What is kept of it is known by its
hash.
"""

import gzip
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

VERSION = "1.30.0"
SCRIPT, BINARY = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
_SHA256 = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    BINARY: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
NAMES = tuple(_SHA256)
FOLDER = f"onnxruntime-web-{VERSION}"
"""In the data directory, and in the files' addresses: what stands there never changes."""
_SECONDS = 300


class NotFetched(Exception):
    """The files could not be had; the message says why."""


def is_there(data_dir: Path) -> bool:
    return all((data_dir / FOLDER / name).is_file() for name in NAMES)


def fetch(data_dir: Path) -> bool:
    """Fetch them unless they are there; False where they were. Raises NotFetched."""
    if is_there(data_dir):
        return False
    npm = shutil.which("npm")
    if npm is None:
        raise NotFetched("npm was not found: it brings onnxruntime-web (apt-get install npm)")
    try:
        with tempfile.TemporaryDirectory(prefix="onnxruntime-web-", dir=data_dir) as made:
            folder = Path(made)
            _take(_packed(npm, folder), folder / "files")
            shutil.rmtree(data_dir / FOLDER, ignore_errors=True)
            (folder / "files").replace(data_dir / FOLDER)
    except OSError as error:
        raise NotFetched(f"{data_dir} can't be written to: {error}") from error
    return True


def _packed(npm: str, folder: Path) -> Path:
    words = [npm, "pack", f"onnxruntime-web@{VERSION}", "--silent", "--pack-destination", str(folder)]
    try:
        ran = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotFetched(f"npm did not bring onnxruntime-web within {_SECONDS} s") from error
    packed = next(folder.glob("*.tgz"), None)
    if ran.returncode != 0 or packed is None:
        raise NotFetched(f"npm did not bring onnxruntime-web: {ran.stderr.strip()[-500:]}")
    return packed


def _take(packed: Path, folder: Path) -> None:
    """The two files out of the package, and the large one compressed beside it."""
    folder.mkdir()
    with tarfile.open(packed) as archive:
        for name, sha256 in _SHA256.items():
            member = archive.extractfile(f"package/dist/{name}")
            body = b"" if member is None else member.read()
            if hashlib.sha256(body).hexdigest() != sha256:
                raise NotFetched(f"{name} of onnxruntime-web {VERSION} came with another hash")
            (folder / name).write_bytes(body)
    compressed = gzip.compress((folder / BINARY).read_bytes(), mtime=0)
    (folder / f"{BINARY}.gz").write_bytes(compressed)
