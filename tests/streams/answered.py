"""What must hold of a stream's answers, whatever died on the way."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from noregret.experiments.models import Endpoint
from noregret.learning.drain import drain

from serving.ledger.models import Decision
from serving.process import process
from tests.conftest import endpoint_of, python_model, start_experiment


def digits_experiment() -> Endpoint:
    """An endpoint `digits` with two arms that say 0 and 1, each for half of the requests."""
    for name in ("zeros", "ones"):
        python_model("digit", name, name)
    endpoint = endpoint_of("digits", "digit@zeros", 5000)
    start_experiment(
        {
            "name": "e",
            "endpoint": "digits",
            "strategy": "ab",
            "arms": [{"name": "a", "model": "digit@zeros"}, {"name": "b", "model": "digit@ones"}],
        }
    )
    process().store.refresh()
    return endpoint


def request(name: str, **fields: Any) -> dict[str, Any]:
    return {"request_id": name, "unit": f"unit-{name}", "inputs": [[1.0]], **fields}


def check_one_answer_and_row_each(endpoint: Endpoint, names: Sequence[str], answers: Sequence[dict[str, Any]]) -> None:
    """One answer a request, and one decision in the ledger, which is the one that was answered."""
    assert sorted(answer["request_id"] for answer in answers) == sorted(names)
    while drain(endpoint).decisions:
        pass
    rows = {row.request_id: row for row in Decision.objects.all()}
    assert Decision.objects.count() == len(rows) == len(names)
    seats = dict(endpoint.experiments.get().arms.values_list("pk", "name"))
    for answer in answers:
        row, token = rows[answer["request_id"]], process().signer.read(answer["decision_id"])
        assert UUID(bytes=token.id) == row.id
        assert (answer["arm"], answer["propensity"]) == (seats[row.arm_id], row.propensity)
        assert answer["outputs"]["predict"] == [{"a": 0, "b": 1}[answer["arm"]]]
        assert answer["learnable"]
