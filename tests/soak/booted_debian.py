"""A clean Debian, booted with systemd in a container of its own network: what a guide's commands
are run in.

Debian's packages come from the mirror that this machine knows, once, and are kept in `.clients/` of
the checkout as the environments of public clients are. Inside there is no network but loopback.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.client_environments import KEPT, ROOT

BASE = ["systemd", "systemd-sysv", "dbus", "ca-certificates", "iproute2", "procps"]
PROGRAMS = ("mmdebstrap", "systemd-nspawn", "nsenter")
SOURCES = "/usr/src/noregret"
_NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup")


class Machine:
    """A booted root. Commands run in it as root, in the folder of the sources."""

    def __init__(self, folder: Path, *, wheels: Path) -> None:
        self.folder = folder
        self._wheels = wheels
        self._container: subprocess.Popen[bytes] | None = None
        self._init = 0

    def boot(self) -> None:
        command = ["systemd-nspawn", f"--directory={self.folder}", "--register=no", "--keep-unit"]
        options = ["--private-network", f"--bind-ro={self._wheels}:/var/wheels", "--console=pipe", "--boot"]
        self._container = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(psutil.Error, IndexError):
                self._init = psutil.Process(self._container.pid).children()[0].pid
                state = self.run("systemctl is-system-running", check=False).stdout.strip()
                if state in {"running", "degraded"}:
                    return
            time.sleep(0.5)
        raise AssertionError("systemd was not up within 120 s")

    def run(self, script: str, *, check: bool = True, timeout: float = 900.0) -> "subprocess.CompletedProcess[str]":
        """Run a script of bash's; it ends with the first command that fails."""
        inside = ["nsenter", f"--target={self._init}", *_NAMESPACES, "bash", "-euo", "pipefail", "-c"]
        ran = subprocess.run(
            [*inside, f"cd {SOURCES}\n{script}"],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
            check=False,
        )
        assert not check or ran.returncode == 0, f"{script}\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}"
        return ran

    def holds(self, pid: int) -> bool:
        """Is a process, as this side numbers it, one of the machine's?"""
        try:
            return os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt") and self._init in {
                parent.pid for parent in psutil.Process(pid).parents()
            }
        except (OSError, psutil.Error):
            return False

    def off(self) -> None:
        """As when the power goes: nothing in it is told."""
        if self._container is not None:
            with contextlib.suppress(ProcessLookupError):  # with the first process of a namespace all others end
                os.kill(self._init, signal.SIGKILL)
            self._container.wait(30)
            self._container = None


@contextlib.contextmanager
def machine(packages: list[str], folder: Path) -> Iterator[Machine]:
    """A root with these packages, the sources and the wheels of the lock, booted. Skips where it
    can't be made, and says why."""
    if os.geteuid() != 0 or any(shutil.which(program) is None for program in PROGRAMS):
        pytest.skip(f"a root is made by root with {', '.join(PROGRAMS)}")
    root = folder / "root"
    _copy(_debian(packages), root)
    (root / "etc" / "machine-id").write_text("")
    _copy_sources(root / SOURCES.lstrip("/"))
    (root / "etc" / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /var/wheels\n")
    booted = Machine(root, wheels=_wheels(root / "usr" / "bin" / "python3"))
    try:
        booted.boot()
        yield booted
    finally:
        booted.off()
        shutil.rmtree(root, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--archive", "--reflink=auto", str(source), str(target)], check=True)


def _copy_sources(target: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def _debian(packages: list[str]) -> Path:
    folder = KEPT / "debian"
    whole = folder / "root" / ".whole"
    wanted = ",".join(sorted({*BASE, *packages}))
    if not whole.exists() or whole.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={wanted}", "bookworm"]
        made = subprocess.run([*command, str(folder / "root")], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            pytest.skip(f"no Debian can be made here: {made.stderr.strip()[-500:]}")
        whole.write_text(wanted)
    return folder / "root"


def _wheels(python: Path) -> Path:
    """What the lock names for Debian's Python: it is another than the one that tests run with."""
    folder = KEPT / "wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "download"]
    chosen = ["--quiet", "--require-hashes", "--no-deps", "-r", str(ROOT / "requirements.lock")]
    fetched = subprocess.run([*pip, *chosen, "--dest", str(folder)], capture_output=True, text=True, check=False)
    if fetched.returncode != 0:
        pytest.skip(f"the lock's wheels can't be fetched here: {fetched.stderr.strip()[-500:]}")
    return folder
