"""Whatever a child writes, its files stay within their bound, and the child is never kept waiting
by them."""

import os
import sys
from pathlib import Path

import pytest
from noregret.embedded import capped_log
from noregret.embedded.child import Child


def child(folder: Path, code: str) -> Child:
    return Child(
        name="chatter",
        command=[sys.executable, "-c", code],
        log=folder / "logs" / "chatter.log",
        environment={"PATH": os.defpath},
        cwd=folder,
    )


def run_to_its_end(one: Child) -> None:
    one.start()
    assert one.process is not None
    assert one.process.wait(60) == 0


def test_child__writes_without_end__leaves_files_within_the_bound_and_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capped_log, "LIMIT_BYTES", 1 << 20)
    # Written as a pipe that never blocks wants it: again what did not fit.
    code = (
        "import os, time\n"
        "line = b'x' * 199 + b'\\n'\n"
        "for number in range(60):\n"
        "    data = line * 1000\n"
        "    while data:\n"
        "        try:\n"
        "            data = data[os.write(1, data):]\n"
        "        except BlockingIOError:\n"
        "            time.sleep(0.001)\n"
        "time.sleep(0.2)\n"
        "os.write(2, b'the end\\n')\n"
    )
    one = child(tmp_path, code)
    run_to_its_end(one)
    assert one.last_lines(1) == "the end"
    one.stop()
    files = list((tmp_path / "logs").iterdir())
    assert {file.name for file in files} == {"chatter.log", "chatter.log.1", "chatter.log.2"}
    for file in files:
        assert file.stat().st_size <= (1 << 20) + (1 << 16)
        assert file.stat().st_mode & 0o077 == 0
    # Cut between lines.
    assert all(len(line) in (7, 199) for file in files for line in file.read_bytes().splitlines())


def test_child__nobody_reads__goes_on_and_loses_only_lines(tmp_path: Path) -> None:
    code = (
        "import os\n"
        "lost = 0\n"
        "for number in range(4000):\n"
        "    try:\n"
        "        os.write(1, b'y' * 1023 + b'\\n')\n"
        "    except BlockingIOError:\n"
        "        lost += 1\n"
        "raise SystemExit(0 if lost else 3)\n"
    )
    one = child(tmp_path, code)
    with one._output._lock:  # as a supervisor that stands still
        one.start()
        assert one.process is not None
        assert one.process.wait(60) == 0
    one.stop()
    assert one.log.stat().st_size > 0


def test_child__started_again__writes_on_where_it_was(tmp_path: Path) -> None:
    one = child(tmp_path, "print('again')")
    run_to_its_end(one)
    run_to_its_end(one)
    assert one.last_lines() == "again\nagain"
    one.stop()
    run_to_its_end(one)
    one.stop()
    assert one.log.read_text() == "again\n" * 3


def test_log__of_an_earlier_release__is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capped_log, "LIMIT_BYTES", 1 << 10)
    path = tmp_path / "old.log"
    path.write_bytes(b"z" * (1 << 20))
    log = capped_log.CappedLog(path)
    os.write(log.open(), b"new\n")
    log.settle()
    log.close()
    assert path.read_bytes() == b"new\n"


def test_log__that_is_a_link__is_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    (tmp_path / "linked.log").symlink_to(target)
    log = capped_log.CappedLog(tmp_path / "linked.log")
    os.write(log.open(), b"theirs\n")
    log.settle()
    log.close()
    assert target.read_text() == "mine"
