"""Pages of docs/ about models elsewhere do what they say, by the service as it is shipped."""

from contextlib import redirect_stdout
from io import StringIO

import pytest
from noregret.access.keys import create_key
from noregret.experiments.models import Experiment

from serving.process import process
from tests.conftest import ACTOR
from tests.guide_code import code_of
from tests.serving.remote_server import RemoteServer
from tests.serving.test_remote_models import ESTIMATOR, answers

pytestmark = pytest.mark.django_db(transaction=True)


def test_page__noregret_before_triton__runs_as_it_stands(platform: None, web: str) -> None:
    key = create_key(name="reader", scopes=["predict", "feedback", "manage"], actor=ACTOR)[1]
    triton = RemoteServer(answers)
    (code,) = code_of(
        "remote-models.md", **{"localhost:8000": web, "KEY": key, "http://triton.internal:8000": triton.root}
    )
    told = StringIO()
    with redirect_stdout(told):
        exec(compile(code, "remote-models.md", "exec"), {})  # noqa: S102 - the page is ours
    arm, label = told.getvalue().split()
    assert arm in ("old", "new")
    assert label == ESTIMATOR.predict([[5.1, 3.5, 1.4, 0.2]])[0]
    assert Experiment.objects.get().status == "running"
    live = process().store.endpoint("iris")
    assert live is not None
    assert {model.model.model for model in live.models()} == {"iris@1", "iris@2"}
    triton.stop()
