"""What the suite says of everything that Redis holds, said of a cluster: the same tests, with keys
on three servers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.redis_cluster import running_cluster

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
ROOT = Path(__file__).resolve().parents[2]
OF_REDIS = (
    "tests/learning/test_sticky_units.py",
    "tests/learning/test_publishing.py",
    "tests/learning/test_theirs_alone.py",
    "tests/learning/test_shadows.py",
    "tests/streams/test_redis_stream.py",
    "tests/retention/test_forget.py",
    "tests/dashboard/test_login.py",
    "tests/serving/test_predict_and_feedback.py",
    "tests/serving/test_decision_log.py",
)


@pytest.mark.parametrize("file", OF_REDIS)
def test_file_of_the_suite__holds_on_a_cluster(file: str) -> None:
    with running_cluster() as cluster:
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file],
            env=os.environ | {"TESTS_REDIS_CLUSTER": cluster.url},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout[-5000:]
