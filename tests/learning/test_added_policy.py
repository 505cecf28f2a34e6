"""A policy is one file and one line: the guide's own example passes the contract suites, is
simulated, and runs in the service."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_policies_in_service as in_service
from noregret.experiments.models import Experiment
from noregret.rollout.publish import build

from bandits import policies, simulation
from bandits.policies import registry
from tests.conftest import endpoint_of, start_experiment, static_model

NAME = "moss"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of docs/adding-a-policy.md."""
    guide = (ROOT / "docs" / "adding-a-policy.md").read_text()
    example = re.search(r"```python\n(.*?)```", guide, re.DOTALL)
    assert example is not None
    path = tmp_path / f"{NAME}.py"
    path.write_text(example[1])
    return path


@pytest.fixture
def added(file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The policy's name, once its line was read; for this test alone."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    importlib.import_module(NAME)
    return NAME


def test_added_policy__the_contract_suites__find_it_and_it_passes(file: Path) -> None:
    suites = ["test_policies.py", "test_simulation.py", "test_ope.py"]
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", NAME, "-q", "-k", NAME, *(f"tests/bandits/{suite}" for suite in suites)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(file.parent)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    passed = re.search(r"(\d+) passed", found.stdout)
    assert found.returncode == 0, found.stdout
    assert passed is not None
    assert int(passed[1]) >= 12


def test_added_policy__by_its_name__is_simulated_and_told_to_people(added: str) -> None:
    assert added in policies.names()
    assert policies.summary(added).startswith("MOSS")
    assert policies.make(added, discount=0.9).memory.forgets
    found = simulation.simulate(added, simulation.bernoulli([0.8, 0.3]), 500, 10, 1)
    assert found.pulls[:, 0].mean() > 400


@pytest.mark.django_db(transaction=True)
def test_added_policy__in_the_service__is_checked_published_and_rebuilt(
    added: str, two_arms: Callable[..., Experiment]
) -> None:
    in_service.test_policy__in_the_service__learns_and_serves_and_is_rebuilt(two_arms, added)


@pytest.mark.django_db(transaction=True)
def test_added_policy__its_document_and_snapshot__name_it(added: str) -> None:
    static_model("page", "v0")
    static_model("page", "v1")
    endpoint_of("pages", "page@v0")
    body: dict[str, Any] = {
        "name": "e",
        "endpoint": "pages",
        "strategy": "bandit",
        "arms": [{"name": "a", "model": "page@v0"}, {"name": "b", "model": "page@v1"}],
        "policy": {"name": added},
    }
    experiment = start_experiment(body)
    made = build(experiment.endpoint_id).experiment
    assert made is not None
    assert made.policy is not None
    assert made.policy.name == added


def test_register__name_that_is_taken__is_refused(added: str) -> None:
    with pytest.raises(ValueError, match="registered already, by MOSS"):
        registry.register(type("Other", (), {"name": added}))
