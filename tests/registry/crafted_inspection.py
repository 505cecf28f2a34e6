"""An inspection that was taken over: it runs in place of reading the artefact, in the real
inspecting process, and tells what it could do.

Only tests start it (`inspection.INSPECTOR`). What it is to try is in the file `artifact`, as JSON.
"""

import ctypes
import json
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from noregret.registry import skops_file


def attack(body: bytes, trusted: Sequence[str]) -> Any:
    aims = json.loads(body)
    tries: dict[str, Callable[[], Any]] = {
        "connect": lambda: socket.create_connection(("127.0.0.1", aims["port"]), timeout=2),
        "unix": lambda: socket.socket(socket.AF_UNIX).connect(aims["socket"]),
        "datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", aims["port"])),
        "read": lambda: Path(aims["secret"]).read_text(),
        "list": lambda: listed(Path(aims["secret"]).parent),
        "write": lambda: Path(aims["secret"]).write_text("mine"),
        "environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "passwords": lambda: Path("/etc/passwd").read_text(),
        "program": lambda: subprocess.run(["/bin/true"], check=True),
        "fork": lambda: os._exit(0) if os.fork() == 0 else None,
        "signal": lambda: os.kill(aims["victim"], 0),
        "trace": trace(aims["victim"]),
    }
    done = []
    for name, attempt in tries.items():
        try:
            attempt()
        except (OSError, subprocess.SubprocessError):
            continue
        done.append(name)
    # Left behind for whoever reads the folder: a link to the secret where the compiled model would
    # be.
    Path("model.onnx").symlink_to(aims["secret"])
    raise skops_file.Refused(f"could {json.dumps(done)} as {os.geteuid()}")


def listed(folder: Path) -> None:
    if not any(folder.iterdir()):
        raise OSError("nothing is there")


def trace(pid: int) -> Callable[[], None]:
    def attach() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ptrace(16, pid, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")
        libc.ptrace(17, pid, None, None)

    return attach


if __name__ == "__main__":
    skops_file.load = attack
    sys.modules.pop("noregret.registry.inspect_artifact", None)
    runpy.run_module("noregret.registry.inspect_artifact", run_name="__main__")
