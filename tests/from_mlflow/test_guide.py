"""The page "From MLflow to production" does what it says: its first block in MLflow's environment,
its second against the service as it is shipped.
"""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from noregret.access.keys import create_key
from noregret.experiments.models import Experiment
from noregret.mlflow.aliases import move_due
from noregret.rollout.transitions import move

from tests.client_environments import python_of
from tests.conftest import ACTOR
from tests.from_mlflow.mlflow_server import plain_environment
from tests.from_mlflow.test_import import alias
from tests.guide_code import code_of
from tests.protocols.conftest import web  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db(transaction=True)


def test_page__from_mlflow_to_production__runs_as_it_stands(
    platform: None,
    mlflow: dict[str, Any],
    web: str,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    key = create_key(name="reader", scopes=["predict", "feedback", "manage"], actor=ACTOR)[1]
    url = mlflow["url"]
    logging, serving = code_of("from-mlflow.md", **{"http://localhost:5000": url, "localhost:8000": web, "KEY": key})
    ran = subprocess.run(
        [str(python_of("mlflow-server")), "-c", logging],
        cwd=tmp_path, env=plain_environment(), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    names: dict[str, Any] = {}
    exec(compile(serving, "from-mlflow.md", "exec"), names)  # noqa: S102 - the page is ours
    names["noregret"].close()
    experiment = Experiment.objects.get()
    assert (experiment.status, alias(url, "champion", "iris")) == ("running", "1")
    move(experiment, "promote", actor=ACTOR, arm=experiment.arms.get(name="next"))
    assert move_due() == 1
    assert alias(url, "champion", "iris") == "2"
