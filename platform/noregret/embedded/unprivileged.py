"""Root starts `up`, and an ordinary user runs it: the data directory's owner, or a user of the
machine that owns nothing.

What is in the data directory is handed over by descriptor: no link is followed, and a file with a
second name is nobody's to give away. Where that user could not run the platform (its code or a
callable's folder is closed to it), root stays, and says why.
"""

import contextlib
import ctypes
import os
import pwd
import stat
import struct
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from noregret import env
from noregret.package_path import PACKAGE, ROOTS

from .errors import StartFailed
from .lock import LOCK_FILE
from .postgres import bin_dir, let_through

OWN_USER = "noregret"
"""Taken where the machine has it; else `nobody`."""

_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_NET_BIND_SERVICE = 10
_CAPABILITY_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class User:
    uid: int
    gid: int
    name: str


def drop(data_dir: Path, port: int, *, embedded_database: bool) -> str | None:
    """Hand the data directory over and become its user, where this process is root; a sentence when
    it has to stay root.

    `port` stays one that the user may listen on. The data directory exists, and its lock is held.
    """
    if os.geteuid() != 0:
        return None
    user = _user_of(data_dir)
    # One that was Noregret's before is handed over whole; of any other, only what Noregret made.
    known = (data_dir / "secret_key").exists()
    foreign = [] if known else _foreign_folders(data_dir)
    if foreign:
        return _stays(user, f"{data_dir} holds folders that are not Noregret's ({', '.join(foreign[:3])})")
    code = _code()
    for path in (data_dir, *code, *([bin_dir() / "postgres"] if embedded_database else [])):
        with contextlib.suppress(OSError):
            let_through(path)
    closed = _closed_to(user, data_dir, code)
    if closed is not None:
        return _stays(user, closed)
    try:
        _hand_over(data_dir, user, whole=known)
    except OSError as error:
        return _stays(user, f"{data_dir} can't be handed over to it ({error.strerror})")
    _become(user, keep_low_ports=port < _first_free_port())
    env.hand_home(data_dir, user.name)
    return None


def _stays(user: User, why: str) -> str:
    return f"everything but PostgreSQL runs as root: {why}; {user.name} would run it otherwise."


def _user_of(data_dir: Path) -> User:
    owner = data_dir.stat()
    if owner.st_uid != 0:
        try:
            name = pwd.getpwuid(owner.st_uid).pw_name
        except KeyError:
            name = str(owner.st_uid)
        return User(owner.st_uid, owner.st_gid, name)
    for name in (OWN_USER, "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid != 0:
                return User(entry.pw_uid, entry.pw_gid, name)
    raise StartFailed(
        f"started by root, and there is no user {OWN_USER} or nobody to run as: make one, or start it as another user"
    )


_OURS = {"artifacts", "logs", "metrics", "postgres", "redis", "snapshots", "spool", "uploads"}

_OF_THE_FILE_SYSTEM = {"lost+found"}


def _foreign_folders(data_dir: Path) -> list[str]:
    """Folders in it that no release of Noregret makes: giving it away would give away more than
    Noregret's."""
    with os.scandir(data_dir) as entries:
        folders = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    return [name for name in folders if name not in _OURS | _OF_THE_FILE_SYSTEM]


def _code() -> list[Path]:
    """What has to be read: Python, its packages, ours, and what callables come from."""
    here = Path.cwd()  # on the path of `python -m`, and not on that of any child
    searched = [Path(entry) for entry in sys.path if entry and Path(entry) != here]
    paths = [Path(sys.prefix), Path(sys.base_prefix), *ROOTS, *env.python_path(), *searched]
    return [path for path in dict.fromkeys(paths) if path.exists()]


def _closed_to(user: User, data_dir: Path, code: list[Path]) -> str | None:
    """What the user can't use, asked as that user in a process of its own; None when nothing is
    missing."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            os.setgroups([])
            os.setgid(user.gid)
            os.setuid(user.uid)
            os.write(writer, (_first_closed(data_dir, code) or "").encode()[:4096])
            os._exit(0)
        except BaseException:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        said = answer.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    if status:
        return "a process could not become it"
    return said or None


def _first_closed(data_dir: Path, code: list[Path]) -> str | None:
    for path in (*code, PACKAGE, PACKAGE / "env.py"):
        if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
            return f"{path} is closed to it"
    if not os.access(data_dir.parent, os.X_OK):
        return f"{data_dir.parent} is closed to it"
    temporary = tempfile.gettempdir()  # where root's commands will look for the sockets
    if not os.access(temporary, os.W_OK | os.X_OK):
        return f"the temporary directory {temporary} is closed to it"
    return None


def _hand_over(data_dir: Path, user: User, *, whole: bool) -> None:
    """Give the user what in the data directory is not its own yet; folders after what they hold, so
    that a break is made good later."""
    device = data_dir.stat().st_dev
    for path, _, files, folder in os.fwalk(data_dir, topdown=False, follow_symlinks=False):
        if os.fstat(folder).st_dev != device or Path(path).name in _OF_THE_FILE_SYSTEM:
            continue
        for name in files:
            if whole or Path(path) != data_dir or name == LOCK_FILE:
                _give(name, folder, user)
        if os.fstat(folder).st_uid != user.uid:
            os.fchown(folder, user.uid, user.gid)


def _give(name: str, folder: int, user: User) -> None:
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:  # a link, a socket, or gone
        return
    try:
        found = os.fstat(file)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid != user.uid:
            os.fchown(file, user.uid, user.gid)
    finally:
        os.close(file)


def _first_free_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def _become(user: User, *, keep_low_ports: bool) -> None:
    """The user's ids, and no right of root's but, where asked for, the one to listen on low ports;
    children have it too."""
    if keep_low_ports:
        _libc.prctl(_PR_SET_KEEPCAPS, 1)
    try:
        os.initgroups(user.name, user.gid)
    except OSError:
        os.setgroups([])
    os.setgid(user.gid)
    os.setuid(user.uid)
    if keep_low_ports:
        only = 1 << _CAP_NET_BIND_SERVICE
        header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
        _libc.capset(header, struct.pack("6I", only, only, only, 0, 0, 0))
        _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_NET_BIND_SERVICE, 0, 0)
    # Its own memory and files in /proc are the user's again, as those of any process that user
    # starts.
    _libc.prctl(_PR_SET_DUMPABLE, 1)
