"""An inspection that an artefact took over reaches nothing: no network, no secret, no other
process, as root and as anybody."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from noregret.registry import confinement, inspection
from noregret.registry.errors import ArtifactRefused

from tests.registry.inspected import inspect


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may pass through: pytest's own is closed to the user that root's
    inspections become."""
    with tempfile.TemporaryDirectory(prefix="noregret-aims-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def aims(place: Path, settings: Any) -> Iterator[dict[str, Any]]:
    """What there is to reach: a listener, a socket, a secret in the data directory, a process of
    the same user."""
    settings.DATA_DIR = place / "data"
    settings.DATA_DIR.mkdir()
    settings.DATA_DIR.chmod(0o777)  # what keeps it out is not the file's mode
    secret = settings.DATA_DIR / "secret_key"
    secret.write_text("the secret")
    secret.chmod(0o666)
    victim = subprocess.Popen(["sleep", "60"])
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(place / "s"))
        local.listen()
        (place / "s").chmod(0o777)
        yield {
            "port": listener.getsockname()[1],
            "socket": str(place / "s"),
            "secret": str(secret),
            "victim": victim.pid,
        }
    victim.kill()
    victim.wait()
    assert secret.read_text() == "the secret"


def taken_over(aims: dict[str, Any]) -> tuple[list[str], int]:
    with pytest.raises(ArtifactRefused) as refused:
        inspect(json.dumps(aims).encode())
    words = str(refused.value).split()
    assert words[0] == "could", refused.value
    return json.loads(" ".join(words[1:-2])), int(words[-1])


def test_inspection__that_was_taken_over__reaches_nothing(
    aims: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_force = inspection.confinement()
    if set(in_force.missing) - {confinement.USER}:
        pytest.skip(f"this kernel does not give {in_force.missing}")
    monkeypatch.setattr(inspection, "INSPECTOR", "tests.registry.crafted_inspection")
    could, uid = taken_over(aims)
    assert could == []
    assert (uid == 0) == (confinement.USER in in_force.missing)


def test_link_that_was_left_for_the_compiled_model__is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    folder = tmp_path / "inspection"
    folder.mkdir()
    (folder / "model.onnx").symlink_to(secret)
    (folder / "answer.json").hardlink_to(secret)
    os.mkfifo(folder / "said")
    (folder / "large").write_bytes(b"x" * 11)
    (folder / "plain").write_bytes(b"x" * 10)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        names = ("model.onnx", "answer.json", "said", "large", "plain", "absent")
        assert [inspection._left(descriptor, name, 10) for name in names] == [None, None, None, None, b"x" * 10, None]
    finally:
        os.close(descriptor)


def run_confined(code: str, *hidden: Path, before: str = "", folder: Path) -> "subprocess.CompletedProcess[str]":
    """Code that runs after `confine`; `before` runs ahead of it, as a kernel or container that
    offers less."""
    script = (
        f"import pathlib, sys, os, socket\nfrom noregret.registry import confinement\n{before}\n"
        "found = confinement.confine(pathlib.Path(sys.argv[1]), [pathlib.Path(path) for path in sys.argv[2:]])\n"
        f"{code}"
    )
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "TMPDIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", script, str(folder), *map(str, hidden)],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


NO_NAMESPACES = "confinement._own_user_namespace = lambda: False\nconfinement._libc.unshare = lambda flags: -1"
NO_LANDLOCK = "confinement._landlock = lambda folder, hidden: 0"
NO_FILTER = "confinement._filter_calls = lambda: False"


@pytest.mark.parametrize(
    ("lacking", "missing"),
    [
        ((NO_NAMESPACES,), set()),
        ((NO_LANDLOCK,), set()),
        ((NO_NAMESPACES, NO_LANDLOCK), {confinement.FILES}),
        ((NO_NAMESPACES, NO_LANDLOCK, NO_FILTER), {confinement.FILES, confinement.NETWORK, confinement.PROCESSES}),
    ],
    ids=["no namespaces", "no Landlock", "a filter alone", "nothing"],
)
def test_confinement__where_the_kernel_gives_less__takes_what_there_is_and_tells_the_rest(
    place: Path, lacking: tuple[str, ...], missing: set[str]
) -> None:
    folder, data = place / "own", place / "data"
    folder.mkdir()
    data.mkdir()
    (data / "secret_key").write_text("the secret")
    code = (
        "def can(attempt):\n    try:\n        attempt()\n    except OSError:\n        return False\n    return True\n"
        "(pathlib.Path(sys.argv[1]) / 'answer').write_text('mine')\n"
        "print(sorted(found.missing), can(lambda: open(sys.argv[2] + '/secret_key').read()), "
        "can(lambda: socket.create_connection(('127.0.0.1', 9))), can(lambda: socket.socket()))"
    )
    whole = inspection.confinement()
    if set(whole.missing) - {confinement.USER} or len(whole.means) < 3:
        pytest.skip(f"there is nothing to leave out of {whole}")
    found = run_confined(code, data, before="\n".join(lacking), folder=folder)
    assert found.returncode == 0, found.stderr
    expected = sorted(missing | set(whole.missing))
    files, sockets = confinement.FILES in missing, confinement.PROCESSES in missing
    assert found.stdout.strip() == f"{expected} {files} False {sockets}"


def test_checkout_with_the_data_directory_inside__is_read_around_it(tmp_path: Path) -> None:
    (tmp_path / "checkout" / "package").mkdir(parents=True)
    (tmp_path / "checkout" / "data").mkdir()
    rules = confinement._open_around(tmp_path / "checkout", 0b1100, [tmp_path / "checkout" / "data"])
    assert rules == [(tmp_path / "checkout", 0b1000), (tmp_path / "checkout" / "package", 0b1100)]
    assert confinement._open_around(tmp_path / "checkout" / "data", 0b1100, [tmp_path / "checkout" / "data"]) == []


def test_settings__name_what_is_hidden() -> None:
    command = inspection._command("m", Path("/f"))
    assert str(django_settings.DATA_DIR) in command
