"""Models elsewhere by the service as it is shipped: the page about them does what it says, and one
that hangs is nobody else's trouble.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import httpx
import pytest
from django.conf import settings
from noregret.access.keys import create_key
from noregret.experiments.models import Experiment

from serving.deadline import AT_ONCE
from serving.process import process
from tests.conftest import ACTOR, endpoint_of, static_model
from tests.guide_code import code_of
from tests.serving.remote_server import RemoteServer
from tests.serving.test_remote_models import ESTIMATOR, answers
from tests.serving.test_when_things_break import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def test_page__noregret_before_triton__runs_as_it_stands(platform: None, web: str) -> None:
    key = create_key(name="reader", scopes=["predict", "feedback", "manage"], actor=ACTOR)[1]
    triton = RemoteServer(answers)
    (code,) = code_of(
        "remote-models.md", **{"localhost:8000": web, "KEY": key, "http://triton.internal:8000": triton.root}
    )
    told, names = StringIO(), dict[str, Any]()
    with redirect_stdout(told):
        exec(compile(code, "remote-models.md", "exec"), names)  # noqa: S102 - the page is ours
    names["noregret"].close()
    arm, label = told.getvalue().split()
    assert arm in ("old", "new")
    assert label == ESTIMATOR.predict([[5.1, 3.5, 1.4, 0.2]])[0]
    assert Experiment.objects.get().status == "running"
    live = process().store.endpoint("iris")
    assert live is not None
    assert {model.model.model for model in live.models()} == {"iris@1", "iris@2"}
    triton.stop()


def test_server__that_hangs__takes_no_thread_from_endpoints_that_are_served_here(platform: None, web: str) -> None:
    """All threads of the data plane twice over wait for it, and the other is answered meanwhile."""
    key = create_key(name="reader", scopes=["predict", "manage"], actor=ACTOR)[1]
    client = httpx.Client(base_url=f"http://{web}/api/v1", headers={"Authorization": f"Bearer {key}"}, timeout=30)
    hanging = RemoteServer(answers)
    gate = threading.Event()
    hanging.hostile = lambda handler: (gate.wait(20), handler.reply(500, {}))[1]
    definition = {"name": "m", "version": "1", "framework": "http", "protocol": "open-inference"}
    client.post("/models", json=definition | {"url": hanging.open_inference}).raise_for_status()
    endpoint_of("hangs", "m@1", deadline_ms=15_000)
    endpoint_of("near", static_model("page", "a"))
    process().store.refresh(10.0)
    threads = 2 * settings.ENVIRONMENT.blocking_threads

    def ask(endpoint: str) -> int:
        return client.post(f"/endpoints/{endpoint}/predict", json={"inputs": [[1, 2, 3, 4]]}).status_code

    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(ask, "hangs") for _ in range(threads)]
        assert wait_for(lambda: len(hanging.paths) > AT_ONCE)  # as many of one model as there may be
        assert [ask("near") for _ in range(5)] == [200] * 5
        assert not any(future.done() and future.result() == 200 for future in waiting)
        assert any(not future.done() for future in waiting)
        gate.set()
    assert {future.result() for future in waiting} == {503}
    hanging.stop()
    client.close()
