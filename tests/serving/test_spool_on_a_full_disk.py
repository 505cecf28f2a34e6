"""A disk that refuses: predict says that the decision is not kept, and what it said so of is not
found later."""

import subprocess
import sys
from pathlib import Path

from serving.ledger.spool import Spool, read

# Files of at most 330 bytes: the kernel writes what fits of a record, and refuses the rest.
PROGRAM = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from serving.ledger.spool import Spool, SpoolFull
resource.setrlimit(resource.RLIMIT_FSIZE, (330, 330))
spool = Spool(Path(sys.argv[2]), 10_000)
for i in range(8):
    try:
        spool.add("pages", b"%d" % i * 60)
        print("kept", i)
    except SpoolFull as refusal:
        print("refused", i)
spool.add("pages", b"short")
print("kept short")
spool.close()
"""


def test_spool__disk_refuses_half_a_record__holds_what_was_kept_and_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(Path(__file__).parents[2]), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = done.stdout.split("\n")
    kept = [b"%d" % i * 60 for i in range(8) if f"kept {i}" in said]
    assert 0 < len(kept) < 8
    assert "kept short" in said
    (path,) = tmp_path.glob("*.spool")
    with path.open("rb") as file:
        assert [body for _, body in read(file)] == [*kept, b"short"]
    assert Spool(tmp_path, 10_000).ship(lambda endpoint, body: None) == len(kept) + 1


def test_spool__folder_that_is_a_file__keeps_nothing_and_raises_its_own_error(tmp_path: Path) -> None:
    import pytest

    from serving.ledger.spool import SpoolFull

    (tmp_path / "spool").write_text("in the way")
    spool = Spool(tmp_path / "spool", 10_000)
    with pytest.raises(SpoolFull):
        spool.add("pages", b"event")
    spool.close()
    assert spool.ship(lambda endpoint, body: None) == 0


def test_spool__shipper_that_looks_while_a_file_is_made__sees_none_that_is_not_locked(tmp_path: Path) -> None:
    mine, other = Spool(tmp_path, 10_000), Spool(tmp_path, 10_000)
    for i in range(50):
        mine.add("pages", b"%d" % i)
        assert other.ship(lambda endpoint, body: None) == 0
    shipped: list[bytes] = []
    mine.ship(lambda endpoint, bodies: shipped.extend(bodies))
    assert shipped == [b"%d" % i for i in range(50)]
