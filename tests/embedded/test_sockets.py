"""The folder of sockets lies where everybody may write: one that is not ours is not taken, and
nothing of others is removed."""

import os
import stat
from pathlib import Path

import pytest
from noregret.embedded.errors import StartFailed
from noregret.embedded.sockets import SocketFolder

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give folders away")
NOBODY = (65534, 65534)


def test_folder__taken_and_left__leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sockets"
    folder = SocketFolder(path, None)
    folder.take()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    (path / "redis.sock").touch()
    (path / "postgres" / ".s.PGSQL.5432").touch()
    folder.take()  # as the next start after a kill
    folder.leave()
    assert not path.exists()


def test_link_in_its_place__is_refused_and_its_target_keeps_everything(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    (target / "postgres").mkdir(parents=True)
    (target / "redis.sock").write_text("mine")
    mode = target.stat().st_mode
    path = tmp_path / "sockets"
    path.symlink_to(target)
    folder = SocketFolder(path, NOBODY if os.getuid() == 0 else None)
    with pytest.raises(StartFailed, match="remove it"):
        folder.take()
    folder.leave()
    assert (target / "redis.sock").read_text() == "mine"
    assert (target.stat().st_mode, target.stat().st_uid) == (mode, os.getuid())


def test_folder_that_others_may_write__is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sockets"
    path.mkdir()
    path.chmod(0o777)
    with pytest.raises(StartFailed, match="can be written by others"):
        SocketFolder(path, None).take()


@needs_root
def test_folder_of_another_user__is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "sockets"
    path.mkdir(mode=0o700)
    (path / "redis.sock").touch()
    os.chown(path, *NOBODY)
    folder = SocketFolder(path, NOBODY)
    with pytest.raises(StartFailed, match="belongs to the user 65534"):
        folder.take()
    folder.leave()
    assert (path / "redis.sock").exists()


@needs_root
def test_postgres_as_another_user__owns_its_own_folder_and_not_the_one_of_redis(tmp_path: Path) -> None:
    path = tmp_path / "sockets"
    SocketFolder(path, NOBODY).take()
    assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (os.getuid(), 0o711)
    inner = (path / "postgres").stat()
    assert (inner.st_uid, stat.S_IMODE(inner.st_mode)) == (NOBODY[0], 0o700)


def test_something_else_in_it__is_kept_with_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "sockets"
    folder = SocketFolder(path, None)
    folder.take()
    (path / "note").write_text("not ours")
    folder.leave()
    assert (path / "note").exists()
