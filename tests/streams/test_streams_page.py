"""The code of docs/streams.md, run as a reader would, with a consumer between asking and
reading."""

import threading
from typing import Any

import pytest
from django.conf import settings
from noregret.redis_client import client

from serving.process import process
from serving.streams import making
from serving.streams.addresses import parse
from tests.conftest import endpoint_of, python_model
from tests.guide_code import code_of


def test_page__asks_and_reads(platform: None, monkeypatch: pytest.MonkeyPatch) -> None:
    python_model("iris", "1", "sums")
    endpoint_of("iris", "iris@1")
    process().store.refresh()
    monkeypatch.setenv("STREAMS_URL", settings.REDIS_URL)
    ask, read, *_ = code_of("streams.md")  # the others ask web processes (tests/clients/test_beam.py)
    known: dict[str, Any] = {}
    try:
        exec(compile(ask, "streams.md", "exec"), known)  # noqa: S102 - the page's own code
        source, sink = parse("redis:?stream=requests"), parse("redis:?stream=answers")
        wanted = making.Wanted("iris", source, sink, "noregret", "requests-dead", 64, 0, 30.0, 60, False)
        consumer = making.make(wanted, process(), threads=1)
        consumer.start(threading.Event())
        assert consumer.round() == 2
        consumer.close()
        exec(compile(read, "streams.md", "exec"), known)  # noqa: S102 - as above
    finally:
        client().delete("requests", "answers", "requests-dead")
        known["server"].close()
    assert {name: outputs for name, (outputs, _) in known["answers"].items()} == {
        "iris-0": [pytest.approx(10.2)],
        "iris-1": [pytest.approx(17.8)],
    }
