"""What is taken from the process that opens uploaded artefacts, before it opens one.

Each measure is taken where the kernel offers it, and what is in force is told: a container may
forbid namespaces, an old kernel lacks Landlock. Nothing here needs root; as root the process
becomes an ordinary user besides. Linux's own numbers are used, for libc has no names for these
calls:

* a user, network, mount and IPC namespace of its own (unshare(2)), with nothing mounted where
  secrets and sockets are;
* the ids of `nobody`, where it was root, and no capability (capset(2));
* Landlock (landlock(7)): files other than Python's, its packages' and its own folder can't be
  opened, nor written, nor signalled past;
* a filter of system calls (seccomp(2)): no socket, no other process, no program, no tracing.
"""

import contextlib
import ctypes
import errno
import json
import os
import platform
import pwd
import stat
import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

NETWORK = "a closed network"
FILES = "closed folders"
PROCESSES = "a ban on other processes"
USER = "an ordinary user"
ALL = (NETWORK, FILES, PROCESSES, USER)


@dataclass(frozen=True, slots=True)
class Confinement:
    """`means`: what the kernel granted. `missing`: of `ALL`, what nothing of it gives."""

    means: tuple[str, ...]
    missing: tuple[str, ...]


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x40000000
_NAMESPACES = _CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWIPC
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 0x4000, 0x40000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522
_SIGKILL = 9


def confine(folder: Path, hidden: Sequence[Path]) -> Confinement:
    """Confine this process, which has one thread, to `folder` and to what Python needs. Of
    `hidden`, nothing stays in reach."""
    hidden = [path.resolve() for path in hidden]
    means = []
    apart = os.geteuid() == 0 and not _libc.unshare(_NAMESPACES)
    covered = apart and _cover(hidden, folder)
    ordinary = _ordinary_user(folder)
    if not apart:
        apart = _own_user_namespace()
        covered = apart and _cover(hidden, folder)
    if apart:
        means.append("namespaces of its own")
    if ordinary:
        means.append(f"the user {_user_name()}")
    _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    _no_capabilities()
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    version = _landlock(folder, hidden)
    if version:
        means.append(f"Landlock {version}")
    filtered = _filter_calls()
    if filtered:
        means.append("a filter of system calls")
    in_force = {NETWORK: filtered or covered, FILES: bool(version) or covered, PROCESSES: filtered, USER: ordinary}
    return Confinement(tuple(means), tuple(name for name in ALL if not in_force[name]))


def _own_user_namespace() -> bool:
    """Namespaces as an ordinary user gets them, whose ids stay what they are."""
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(_NAMESPACES | _CLONE_NEWUSER):
        return False
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    return True


def _cover(hidden: Iterable[Path], folder: Path) -> bool:
    """Mount an empty folder over each, and over other processes' files; False where one of them
    stays visible."""
    if any(path in folder.parents for path in hidden) or _mount(None, b"/", None, _MS_REC | _MS_PRIVATE):
        return False
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    folders = [path for path in (*hidden, Path("/proc")) if path.is_dir()]
    failed = [_mount(b"tmpfs", os.fsencode(path), b"tmpfs", flags) for path in folders]
    return not any(failed)


def _mount(source: bytes | None, target: bytes, kind: bytes | None, flags: int) -> bool:
    """Did it fail?"""
    return bool(_libc.mount(source, target, kind, ctypes.c_ulong(flags), None))


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _ordinary_user(folder: Path) -> bool:
    """Is it one, or can it become one that reads what it needs? Its folder goes with it."""
    if os.geteuid() != 0:
        return True
    try:
        nobody = pwd.getpwnam("nobody")
        if not _reads(nobody, _needed_folders(), folder.parent):
            return False
        for path in (folder, *folder.iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
    except (KeyError, OSError):
        return False
    _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # or its own files in /proc stay root's
    return True


def _reads(user: pwd.struct_passwd, folders: list[Path], passed: Path) -> bool:
    """Could this user read the folders, and pass through the one above its own?"""
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        wanted = [(path, os.R_OK | os.X_OK) for path in folders] + [(passed, os.X_OK)]
        return all(os.access(path, rights, effective_ids=True) for path, rights in wanted)
    finally:
        os.seteuid(0)
        os.setegid(0)


def _no_capabilities() -> None:
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _libc.capset(header, struct.pack("6I", 0, 0, 0, 0, 0, 0))


def _python_folders() -> list[Path]:
    folders = [Path(entry) for entry in (*sys.path, sys.prefix, sys.base_prefix) if entry]
    return [path.resolve() for path in dict.fromkeys(folders) if path.is_dir()]


def _call(number: int, *arguments: int | bytes | None) -> int:
    """A system call that libc has no name for."""
    whole = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return int(_libc.syscall(ctypes.c_long(number), *whole))


def _needed_folders() -> list[Path]:
    """Where Python, this package and the packages that it opens models with are; what else is on
    the path may be missing."""
    specs = [find_spec(name) for name in ("json", "noregret", "serving", "numpy")]
    return [Path(spec.origin).resolve().parent for spec in specs if spec is not None and spec.origin is not None]


# Landlock. The bits of linux/landlock.h, by the version of the interface that brought them.
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = (1 << 0) | (1 << 1) | _READ_FILE | (1 << 14) | (1 << 15)
_RIGHTS_OF_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_NET_VERSION, _NET_RIGHTS = 4, 0b11
_SCOPE_VERSION, _SCOPES = 6, 0b11
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH = 1
_SYSTEM_FILES = (
    "/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ssl/openssl.cnf", "/etc/localtime",
    "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",
    "/sys/devices/system", "/sys/fs/cgroup",
)  # fmt: skip


def _landlock(folder: Path, hidden: Sequence[Path]) -> int:
    """The version of Landlock in force, or 0."""
    version = _call(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return 0
    rights = _RIGHTS_OF_VERSION[max(known for known in _RIGHTS_OF_VERSION if known <= version)]
    net = _NET_RIGHTS if version >= _NET_VERSION else 0
    scopes = _SCOPES if version >= _SCOPE_VERSION else 0
    size = 24 if version >= _SCOPE_VERSION else 16 if version >= _NET_VERSION else 8
    attributes = struct.pack("QQQ", rights, net, scopes)
    ruleset = _call(_CREATE_RULESET, attributes, size, 0)
    if ruleset < 0:
        return 0
    try:
        read = _READ_FILE | _READ_DIR
        allowed = [(folder, rights), (Path("/dev/null"), read | 0b10)]
        for path in (*_python_folders(), *map(Path, sys.path), *map(Path, _SYSTEM_FILES)):
            allowed += _open_around(path, read, hidden)
        for path, granted in allowed:
            _allow(ruleset, path, granted)
        return version if _call(_RESTRICT_SELF, ruleset, 0) == 0 else 0
    finally:
        os.close(ruleset)


def _open_around(path: Path, rights: int, hidden: Sequence[Path]) -> list[tuple[Path, int]]:
    """The rules that open all of a path but what is hidden: a checkout holds packages, and by
    default the data directory."""
    path = path.resolve()
    if path in hidden or any(secret in path.parents for secret in hidden):
        return []
    if not any(path in secret.parents for secret in hidden):
        return [(path, rights)]
    rules = [(path, rights & _READ_DIR)]
    with contextlib.suppress(OSError):
        for inner in path.iterdir():
            rules += _open_around(inner, rights, hidden)
    return rules


def _allow(ruleset: int, path: Path, rights: int) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                rights &= _FILE_RIGHTS
            _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
        finally:
            os.close(descriptor)


# The filter, a program of classic BPF over struct seccomp_data: number at 0, architecture at 4,
# first argument at 16.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000
_CLONE3 = 435  # the same everywhere, as every number from 424 on
_COMMON = (424, 425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 438, 440, 442)
"""pidfd_send_signal, io_uring's three, open_tree to fspick, pidfd_open, pidfd_getfd,
process_madvise, mount_setattr."""
_ARCHITECTURES = {
    # The architecture's mark; clone; kill and tgkill; then: socket, socketpair, connect, bind,
    # listen, accept, accept4, sendto, sendmsg, sendmmsg; (fork, vfork,) execve, execveat; ptrace,
    # process_vm_readv and _writev, kcmp, tkill, rt_sigqueueinfo, rt_tgsigqueueinfo; mount, umount2,
    # pivot_root, chroot, unshare, setns; add_key, request_key, keyctl; bpf, perf_event_open,
    # userfaultfd.
    "x86_64": (0xC000003E, 56, (62, 234), (
        41, 53, 42, 49, 50, 43, 288, 44, 46, 307, 57, 58, 59, 322, 101, 310, 311, 312, 200, 129, 297,
        165, 166, 155, 161, 272, 308, 248, 249, 250, 321, 298, 323,
    )),
    "aarch64": (0xC00000B7, 220, (129, 131), (
        198, 199, 203, 200, 201, 202, 242, 206, 211, 269, 221, 281, 117, 270, 271, 272, 130, 138, 240,
        40, 39, 41, 51, 97, 268, 217, 218, 219, 280, 241, 282,
    )),
}  # fmt: skip


def _filter_calls() -> bool:
    """Refuse the calls above with EPERM, signals to others, and clones that are no threads; False
    on a machine with unknown numbers."""
    known = _ARCHITECTURES.get(platform.machine())
    if known is None or sys.maxsize < 2**32:
        return False
    architecture, clone, signals, refused = known
    refuse = (_RETURN, 0, 0, _REFUSE | errno.EPERM)
    program = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, architecture),
        refuse,
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, _X32),
        refuse,
        # libc falls back to clone, whose flags can be looked at.
        (_EQUAL, 0, 1, _CLONE3),
        (_RETURN, 0, 0, _REFUSE | errno.ENOSYS),
    ]
    for number in (*refused, *_COMMON):
        program += [(_EQUAL, 0, 1, number), refuse]
    # What it may do to itself, judged by the first argument; then the number is loaded again.
    for numbers, test in (((clone,), (_ANY_BIT, 1, 0, _CLONE_THREAD)), (signals, (_EQUAL, 1, 0, os.getpid()))):
        for number in numbers:
            program += [(_EQUAL, 0, 4, number), (_LOAD, 0, 0, 16), test, refuse, (_LOAD, 0, 0, 0)]
    program.append((_RETURN, 0, 0, _ALLOW))
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_program = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    return bool(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_program, 0, 0) == 0)


if __name__ == "__main__":
    print(json.dumps(asdict(confine(Path(sys.argv[1]), list(map(Path, sys.argv[2:]))))))  # noqa: T201 - its answer
