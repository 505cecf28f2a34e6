"""A peer that can't be had is told, and ends nothing."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from noregret.bench import irises, peers
from noregret.bench.cores import Cores

NOWHERE = Cores(None, None)


def test_install__of_what_can_not_be_installed__is_an_absent_peer(tmp_path: Path) -> None:
    wanted = replace(peers.BY_NAME["fastapi"], packages=("./not-there",))
    with pytest.raises(peers.PeerAbsent, match="not-there"):
        peers.install(wanted, tmp_path / "peer", irises.irises())
    # Nothing says that it is installed: the next run tries again.
    assert not (tmp_path / "peer" / "installed.json").exists()


@pytest.mark.parametrize("code", ["import sys; sys.exit('no such model')", "import nothing_of_that_name"])
def test_running__of_a_server_that_ends__is_an_absent_peer_with_its_last_words(tmp_path: Path, code: str) -> None:
    python = tmp_path / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    broken = replace(peers.BY_NAME["fastapi"], command=("-c", code))
    with pytest.raises(peers.PeerAbsent, match=r"no such model|nothing_of_that_name"):  # noqa: SIM117 - two claims
        with peers.running(broken, tmp_path, "1", irises.irises(), NOWHERE):
            pass
