"""What an operator gets wrong is told in one sentence, without a traceback and without a secret."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from noregret.embedded import disk
from noregret.env import POSTGRES_SOCKETS, socket_dir
from noregret.package_path import command, python_path

from tests.engines import DATA_DIR

SECRET = "pa5s"


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("NOREGRET_") and name not in ("DATABASE_URL", "REDIS_URL", "PYTHONPATH")
    }
    return subprocess.run(
        command(*arguments),
        env=clean | python_path() | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="noregret-words-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def told(found: "subprocess.CompletedProcess[str]", code: int, *words: str) -> None:
    said = found.stderr
    assert found.returncode == code, said
    assert found.stdout == ""
    assert said.startswith("noregret")
    assert said.count("\n") == 1, said
    for word in words:
        assert word in said
    assert SECRET not in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--port", "99999"), ("--port", "'99999'", "from 0 to 65535")),
        (("--port", "http"), ("--port", "'http'")),
        (("--port", "-1"), ("--port",)),
        (("--web-workers", "0"), ("--web-workers", "'0'", "from 1")),
        (("--colour",), ("--colour",)),
    ],
)
def test_argument_that_cannot_be__is_told(folder: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    told(run("up", *arguments, "--data-dir", str(folder / "d")), 2, *words)
    assert not (folder / "d").exists()


def test_file_as_data_directory__is_told_by_every_command(folder: Path) -> None:
    (folder / "file").write_text("x")
    file = str(folder / "file")
    told(run("up", "--port", "0", "--data-dir", file), 1, file, "name a directory")
    told(run("up", "--port", "0", "--data-dir", f"{file}/below"), 1, file, "name a directory")
    for name in ("doctor", "apikey"):
        told(run(name, "--data-dir", file), 2, file, "a directory was expected")


def test_data_dir__without_a_value__is_told() -> None:
    told(run("up", "--data-dir"), 2, "--data-dir")


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://root:{SECRET}@db/shop",
        f"postgresql://noregret:{SECRET}/word@db:5432/noregret",
        f"postgresql://noregret:{SECRET}#word@db:5432/noregret",
        f"postgresql://noregret:{SECRET}?word@db:5432/noregret",
        f"postgresql://noregret:1234/{SECRET}@db/noregret",
        f"postgresql://noregret:{SECRET}@db:port/noregret",
        f"postgresql://noregret:{SECRET}@[::1/noregret",
        f"noregret:{SECRET}@db",
    ],
)
@pytest.mark.parametrize("name", ["up", "doctor"])
def test_database_url_that_cannot_be_read__is_told_without_any_of_its_password(
    folder: Path, url: str, name: str
) -> None:
    arguments = (name, "--port", "0") if name == "up" else (name,)
    told(
        run(*arguments, "--data-dir", str(folder), DATABASE_URL=url),
        2,
        "DATABASE_URL",
        "postgresql://user:password@host:5432/name",
    )


@pytest.mark.parametrize("url", [f"http://:{SECRET}@h", f"redis://:{SECRET}@h:port/0", f"redis://:{SECRET}/x@h:6379/0"])
def test_redis_url_that_cannot_be_read__is_told_without_any_of_its_password(folder: Path, url: str) -> None:
    told(run("doctor", "--data-dir", str(folder), REDIS_URL=url), 2, "REDIS_URL")


def test_email_url__is_told_without_its_password(folder: Path) -> None:
    told(run("doctor", "--data-dir", str(folder), NOREGRET_EMAIL_URL=f"imap://u:{SECRET}@h"), 2, "NOREGRET_EMAIL_URL")


def test_up__where_no_database_listens__is_told(folder: Path) -> None:
    found = run("up", "--port", "0", "--data-dir", str(folder), DATABASE_URL=f"postgresql://u:{SECRET}@127.0.0.1:9/n")
    assert found.returncode == 1
    last = found.stderr.splitlines()[-1]
    assert last.startswith("noregret up: the database that DATABASE_URL names can't be used: connection")
    assert "Traceback" not in found.stderr
    assert SECRET not in found.stderr


def test_up__with_a_store_of_artefacts_that_cannot_be_made__is_told(folder: Path) -> None:
    named = {
        "DATABASE_URL": "postgresql://u@127.0.0.1:9/n",
        "NOREGRET_ARTIFACT_STORAGE": '{"BACKEND": "nosuch.Storage"}',
    }
    found = run("up", "--port", "0", "--data-dir", str(folder), **named)
    assert found.returncode == 1
    last = found.stderr.splitlines()[-1]
    assert last.startswith(
        "noregret up: NOREGRET_ARTIFACT_STORAGE can't be used: Could not find backend 'nosuch.Storage'"
    )
    assert "Traceback" not in found.stderr


def test_up__on_the_database_of_something_else__is_told(folder: Path, engines: None) -> None:
    sockets = socket_dir(DATA_DIR) / POSTGRES_SOCKETS
    with psycopg.connect(f"host={sockets} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS shop")
        connection.execute("CREATE DATABASE shop")
        with psycopg.connect(f"host={sockets} user=postgres dbname=shop", autocommit=True) as shop:
            shop.execute("CREATE TABLE auth_user (name text)")
        try:
            url = f"postgresql://postgres@/shop?host={quote(str(sockets), safe='')}"
            found = run("up", "--port", "0", "--data-dir", str(folder), DATABASE_URL=url)
        finally:
            connection.execute("DROP DATABASE shop WITH (FORCE)")
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1] == (
        'noregret up: the database that DATABASE_URL names can\'t be used: relation "auth_user" already exists'
    )
    assert "Traceback" not in found.stderr


def test_disk__in_trouble_while_it_runs__is_logged_once_and_so_is_its_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[str, str]] = []
    monkeypatch.setattr(disk, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(disk, "log", _Noting(logged))
    watch = disk.Watch(folder)
    watch.look()
    monkeypatch.setattr(disk, "LEAST_BYTES", 1 << 62)
    watch.look()
    watch.look()
    monkeypatch.setattr(disk, "LEAST_BYTES", 0)
    watch.look()
    watch.look()
    assert [level for level, _ in logged] == ["error", "info"]
    assert f"the disk of {folder} is full" in logged[0][1]


class _Noting:
    def __init__(self, logged: list[tuple[str, str]]) -> None:
        self._logged = logged

    def error(self, event: str, problem: str) -> None:
        self._logged.append(("error", problem))

    def info(self, event: str) -> None:
        self._logged.append(("info", event))


def on_a_small_disk(
    folder: Path, options: str, *arguments: str, fill: bool = False
) -> "subprocess.CompletedProcess[str]":
    """Run a command whose data directory is on a file system of a mount namespace of its own."""
    mount = f"mount -t tmpfs -o size=1m tmpfs {folder}"
    filled = f"head -c 2000000 /dev/zero > {folder}/filler 2>/dev/null;" if fill else ""
    remount = f"mount -o remount,{options} {folder};" if options else ""
    words = " ".join(command(*arguments, "--data-dir", str(folder)))
    script = f"{mount} || exit 77; {filled} {remount} exec {words}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NOREGRET_")}
    found = subprocess.run(
        ["unshare", "-m", "sh", "-c", script] if os.getuid() == 0 else ["unshare", "-rm", "sh", "-c", script],
        env=clean | python_path(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if found.returncode == 77 or "unshare" in found.stderr:
        pytest.skip("no mount namespace can be had here")
    return found


@pytest.mark.parametrize(
    ("fill", "options", "said"), [(True, "", "is full"), (False, "ro", "is read-only"), (False, "", "is full")]
)
def test_disk__full_read_only_or_small__is_told_as_such_by_up_and_doctor(
    folder: Path, fill: bool, options: str, said: str
) -> None:
    up = on_a_small_disk(folder, options, "up", "--port", "0", fill=fill)
    told(up, 1, f"the disk of {folder} {said}")
    doctor = on_a_small_disk(folder, options, "doctor", fill=fill)
    assert doctor.returncode == 1
    assert f"FAIL  disk: the disk of {folder} {said}" in doctor.stdout
    assert "Traceback" not in doctor.stderr
