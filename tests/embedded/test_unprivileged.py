"""Root starts it and another user runs it: what is handed over, what is not, and when root has to
stay."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from noregret.embedded import unprivileged
from noregret.embedded.running import RunningPlatform
from noregret.env import socket_dir
from noregret.package_path import command, python_path

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can leave off being root")
NOBODY = unprivileged.User(65534, 65534, "nobody")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="noregret-root-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def owners(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.lstat().st_uid for path in sorted(folder.rglob("*"))}


def test_up__started_by_root_on_roots_old_directory__runs_as_another_and_gives_it_everything(folder: Path) -> None:
    with RunningPlatform(folder, environment={"NOREGRET_SECRET_KEY": ""}) as first:
        artefacts = folder / "artifacts"
        assert first.stop() == 0
    # As an earlier release, all but PostgreSQL as root, left it.
    (artefacts / "ab").mkdir(parents=True, exist_ok=True)
    (artefacts / "ab" / "abcd").write_text("a model")
    for path in (folder, *folder.rglob("*")):
        if "postgres" not in path.relative_to(folder).parts[:1]:
            os.chown(path, 0, 0, follow_symlinks=False)
    with RunningPlatform(folder, environment={"NOREGRET_SECRET_KEY": ""}) as second:
        assert second.process is not None
        tree = [psutil.Process(second.process.pid), *psutil.Process(second.process.pid).children(recursive=True)]
        assert {process.uids().effective for process in tree} == {NOBODY.uid}
        assert {process.uids().real for process in tree} == {NOBODY.uid}
        assert set(owners(folder).values()) == {NOBODY.uid}
        # Root's own commands find the servers all the same.
        environment = {name: value for name, value in second.environment.items() if name != "NOREGRET_SECRET_KEY"}
        doctor = subprocess.run(
            command("doctor", "--data-dir", str(folder)),
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert doctor.returncode == 0, doctor.stdout
        assert "`up` runs as an ordinary user" in doctor.stdout
        assert "superuser" not in (folder / "logs" / "worker.log").read_text()
    assert not socket_dir(folder).exists()


def test_handing_over__links_second_names_and_foreign_files__keep_their_owner(folder: Path) -> None:
    outside = folder / "outside"
    outside.write_text("not ours")
    data = folder / "data"
    (data / "logs").mkdir(parents=True)
    (data / "logs" / "web.log").touch()
    (data / "up.lock").touch()
    (data / "note").touch()
    (data / "logs" / "linked").symlink_to(outside)
    (data / "logs" / "second").hardlink_to(outside)
    unprivileged._hand_over(data, NOBODY, whole=False)
    assert outside.stat().st_uid == 0
    assert owners(data) == {
        "logs": 65534,
        "logs/linked": 0,
        "logs/second": 0,
        "logs/web.log": 65534,
        "note": 0,
        "up.lock": 65534,
    }
    assert data.stat().st_uid == NOBODY.uid


def test_directory_of_other_things__is_not_given_away(folder: Path) -> None:
    (folder / "src").mkdir()
    said = unprivileged.drop(folder, 8000, embedded_database=False)
    assert said is not None
    assert "holds folders that are not Noregret's (src)" in said
    assert (folder.stat().st_uid, os.geteuid()) == (0, 0)


def test_callables_that_the_user_cannot_read__keep_root__and_it_is_said(folder: Path) -> None:
    closed = folder / "callables"
    closed.mkdir(mode=0o700)
    data = folder / "data"
    data.mkdir()
    code = (
        "import pathlib, sys; from noregret.embedded import unprivileged\n"
        "print(unprivileged.drop(pathlib.Path(sys.argv[1]), 8000, embedded_database=False))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([python_path()["PYTHONPATH"], str(closed)])}
    said = subprocess.run(
        [sys.executable, "-c", code, str(data)], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.strip() == (
        f"everything but PostgreSQL runs as root: {closed} is closed to it; nobody would run it otherwise."
    )
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert data.stat().st_uid == 0


def test_low_port__can_still_be_listened_on(folder: Path) -> None:
    code = (
        "import os, pathlib, socket, sys; from noregret.embedded import unprivileged\n"
        "unprivileged._first_free_port = lambda: 1024\n"
        "assert unprivileged.drop(pathlib.Path(sys.argv[1]), 80, embedded_database=False) is None\n"
        "print(os.getresuid(), [line.split()[1] for line in open('/proc/self/status') if line.startswith(('CapEff', 'CapAmb'))])"
    )
    environment = {**os.environ, **python_path()}
    found = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "(65534, 65534, 65534) ['0000000000000400', '0000000000000400']"
