"""Predictions from a stream in Redis: one answer and one decision a request, wherever a consumer
dies."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from noregret.experiments.models import Endpoint
from prometheus_client import REGISTRY

from serving.ledger.decision_log import DecisionLog
from serving.process import process
from serving.streams import making
from serving.streams.addresses import Address, AddressInvalid, parse
from serving.streams.consumer import Consumer
from serving.streams.kept import KeptAnswers
from serving.streams.messages import CannotStart, NotNow
from serving.streams.redis_stream import RedisStream
from tests.streams.answered import check_one_answer_and_row_each, digits_experiment, request
from tests.streams.redis_streams import Streams

ROOT = Path(__file__).resolve().parents[2]


class Killed(BaseException):
    """The consumer is gone from here on, and tells nobody."""


@pytest.fixture
def endpoint(platform: None) -> Endpoint:
    return digits_experiment()


@pytest.fixture
def streams(endpoint: Endpoint) -> Iterator[Streams]:
    streams = Streams()
    yield streams
    streams.client.delete(streams.source, streams.sink, streams.aside)


def consumer(streams: Streams, **changes: Any) -> Consumer:
    """One that takes over at once what another left."""
    wanted: dict[str, Any] = {
        "endpoint": "digits",
        "source": Address("redis", "", streams.source),
        "sink": Address("redis", "", streams.sink),
        "group": "noregret",
        "aside": streams.aside,
        "most": 8,
        "sink_limit": 0,
        "claim_seconds": 0.001,
        "remember_seconds": 60,
        "deletes": False,
    }
    made = making.make(making.Wanted(**(wanted | changes)), process(), threads=4)
    made.start(threading.Event())
    return made


def until_quiet(made: Consumer) -> None:
    """Rounds until nothing comes and nothing is held."""
    while made.round() or made.held:
        pass


DEATHS: list[tuple[type, str, str]] = [
    (KeptAnswers, "look", "before"),
    (KeptAnswers, "keep", "after"),
    (DecisionLog, "append_many", "after"),
    (RedisStream, "finish", "before"),
    (RedisStream, "finish", "half"),
    (RedisStream, "finish", "after"),
]


@pytest.mark.parametrize(("part", "step", "when"), DEATHS, ids=lambda value: getattr(value, "__name__", value))
def test_consumer_dies_anywhere__another_takes_over__one_answer_and_one_decision_each(
    part: type, step: str, when: str, endpoint: Endpoint, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"r-{i}" for i in range(16)]
    streams.send(*map(request, names))
    does: Callable[..., Any] = getattr(part, step)

    def dies(self: Any, *given: Any) -> None:
        if when == "half":
            does(self, given[0][: len(given[0]) // 2])
        elif when == "after":
            does(self, *given)
        raise Killed

    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(part, step, dies)
            with pytest.raises(Killed):
                consumer(streams).round()
    last = consumer(streams)
    until_quiet(last)
    last.close()
    check_one_answer_and_row_each(endpoint, names, streams.answers())
    assert streams.pending() == 0


def test_requests__repeated_bad_and_without_a_name__are_each_what_they_are(
    endpoint: Endpoint, streams: Streams
) -> None:
    ids = streams.send(
        request("r-1"),
        request("r-1", inputs=[[2.0]]),
        b"{",
        request("r-2", inputs=[["a"]]),
        {"inputs": [[1.0]]},
        b'{"request_id": "r-3", "inputs": [[1.0]]' + b" " * settings.SERVING_BODY_LIMIT + b"}",
    )
    streams.client.xadd(streams.source, {"other": "field"})
    made = consumer(streams)
    until_quiet(made)
    streams.send(request("r-1"))  # long after it was answered
    # One that is called as an unnamed one's place is another request.
    streams.send(request(ids[4]))
    until_quiet(made)
    made.close()
    asked = [answer["request_id"] for answer in streams.answers()]
    assert sorted(asked) == sorted(["r-1", ids[4], ids[4]])
    assert len({answer["decision_id"] for answer in streams.answers()}) == 3
    aside = streams.set_aside()
    assert [told["id"] for told in aside[:3]] == [ids[2], ids[3], ids[5]]
    assert [told["reason"]["status"] for told in aside] == [400, 400, 413, 400]
    assert aside[1]["reason"]["errors"][0]["field"].startswith("inputs")
    assert streams.pending() == 0


def test_poison__that_ends_its_consumers__is_set_aside__and_takes_none_along(
    endpoint: Endpoint, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving.streams.answering import Answering

    names = [f"r-{i}" for i in range(6)]
    streams.send(*map(request, names[:3]), request("poison"), *map(request, names[3:]))
    does = Answering.answer

    def dies(self: Answering, live: Any, message: Any, read: Any) -> Any:
        if read.request_id == "poison":
            raise Killed
        return does(self, live, message, read)

    monkeypatch.setattr(Answering, "answer", dies)
    deaths = 0
    while deaths < 20:
        last = consumer(streams)
        try:
            until_quiet(last)
            break
        except Killed:
            deaths += 1
    last.close()
    assert deaths == 10
    assert [told["reason"]["title"] for told in streams.set_aside()] == ["It ends its consumers"]
    check_one_answer_and_row_each(endpoint, names, streams.answers())


def test_poison__that_a_model_fails_on__is_tried_a_few_times__and_keeps_nobody_waiting(
    endpoint: Endpoint, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving import problems
    from serving.streams.answering import Answering, Failed

    tries: list[str] = []
    does = Answering.answer

    def fails(self: Answering, live: Any, message: Any, read: Any) -> Any:
        if read.request_id == "poison":
            tries.append("poison")
            raise Failed(problems.unavailable("the model could not answer", retry_after=1), None)
        return does(self, live, message, read)

    monkeypatch.setattr(Answering, "answer", fails)
    streams.send(request("poison"))
    made = consumer(streams)
    for _ in range(4):  # alone it may be the model's fault, and is not given up
        made.round()
        time.sleep(0.25)
    assert streams.set_aside() == []
    names = []
    while not streams.set_aside():
        names.append(f"r-{len(names)}")
        streams.send(request(names[-1]))
        made.round()
        time.sleep(0.05)
    until_quiet(made)
    made.close()
    assert [told["reason"]["status"] for told in streams.set_aside()] == [503]
    check_one_answer_and_row_each(endpoint, names, streams.answers())


def test_sink__at_its_limit__is_waited_for__and_loses_nothing(endpoint: Endpoint, streams: Streams) -> None:
    names = [f"r-{i}" for i in range(10)]
    streams.send(*map(request, names))
    made = consumer(streams, most=8, sink_limit=4)  # it holds more than there is room for
    assert made.round() == 4
    assert len(streams.answers()) == 4
    with pytest.raises(NotNow, match="sink"):
        made.round()
    answers = streams.answers()
    streams.client.xtrim(streams.sink, maxlen=0)
    assert made.round() == 4
    answers += streams.answers()
    streams.client.xtrim(streams.sink, maxlen=0)
    made.round()
    made.close()
    check_one_answer_and_row_each(endpoint, names, answers + streams.answers())


def lost() -> float:
    value = REGISTRY.get_sample_value("noregret_stream_messages_total", {"endpoint": "digits", "outcome": "lost"})
    return value or 0.0


def test_source__trimmed_before_its_messages_were_answered__tells_how_many__and_the_lag_is_right(
    endpoint: Endpoint, streams: Streams
) -> None:
    names = iter(f"r-{i}" for i in range(1000))
    answered: list[str] = []

    def send(count: int, kept: int) -> None:
        """So many, of which the last are left in the source."""
        sent = [next(names) for _ in range(count)]
        streams.send(*map(request, sent))
        streams.client.xtrim(streams.source, maxlen=kept, approximate=False)
        answered.extend(sent[count - kept :])

    first, second = consumer(streams, most=4), consumer(streams, most=4)
    assert lost_by(lambda: first.round()) == 0
    send(20, 20)
    assert first.engine.lag() == 20
    assert lost_by(lambda: until_quiet(first)) == 0
    send(30, 12)  # 18 that nobody was given
    assert first.engine.lag() == 12

    def both() -> None:
        while first.round() + second.round():
            pass

    assert lost_by(both) == 18
    assert first.engine.lag() == 0
    send(7, 0)
    assert first.engine.lag() == 0
    assert lost_by(both) == 7
    # Given to one that died, and trimmed meanwhile.
    sent = [next(names) for _ in range(5)]
    streams.send(*map(request, sent))
    streams.client.xreadgroup("noregret", "dead", {streams.source: ">"}, count=3)
    streams.client.xtrim(streams.source, maxlen=3, approximate=False)
    answered.extend(sent[2:])
    time.sleep(0.01)
    assert lost_by(both) == 2
    assert streams.pending() == first.engine.lag() == 0
    # One that is taken out of the middle makes no lag that never ends.
    ids = streams.send(*map(request, middle := [next(names) for _ in range(6)]))
    streams.client.xdel(streams.source, ids[3])
    answered.extend(middle[:3] + middle[4:])
    both()
    assert first.engine.lag() == 0
    send(3, 3)
    assert first.engine.lag() == 3
    assert lost_by(both) == 0
    first.close()
    second.close()
    check_one_answer_and_row_each(endpoint, answered, streams.answers())


def lost_by(does: Callable[[], Any]) -> float:
    before = lost()
    does()
    return lost() - before


def test_group__of_a_source_that_was_trimmed_before__lost_nothing(endpoint: Endpoint, streams: Streams) -> None:
    streams.send(*(request(f"early-{i}") for i in range(9)))
    streams.client.xtrim(streams.source, maxlen=2, approximate=False)
    made = consumer(streams)
    assert made.engine.lag() == 2
    assert lost_by(lambda: until_quiet(made)) == 0
    streams.client.xtrim(streams.source, maxlen=0, approximate=False)
    streams.send(request("late"))
    streams.client.xtrim(streams.source, maxlen=0, approximate=False)
    assert lost_by(lambda: made.round()) == 1
    made.close()


def start(streams: Streams, *more: str) -> "subprocess.Popen[str]":
    """`manage.py stream` as a process."""
    command = [sys.executable, "manage.py", "stream", "digits", "--aside", streams.aside, "--claim-seconds", "1"]
    command += ["--source", f"redis:?stream={streams.source}", "--sink", f"redis:?stream={streams.sink}", *more]
    environment = os.environ | {"NOREGRET_REDIS_PREFIX": settings.REDIS_PREFIX}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def test_command__killed_in_the_middle__others_go_on__and_a_stop_leaves_nothing_behind(
    endpoint: Endpoint, streams: Streams
) -> None:
    names = [f"r-{i}" for i in range(3000)]
    running = [start(streams), start(streams)]
    for each in running:
        assert each.stdout is not None
        assert each.stdout.readline().startswith("ready redis:")
    for first in range(0, len(names), 500):
        streams.send(*map(request, names[first : first + 500]))
        if first == 1000:
            running[0].kill()
    deadline = time.monotonic() + 60
    while streams.client.xlen(streams.sink) < len(names) and time.monotonic() < deadline:
        time.sleep(0.1)
    running[1].terminate()
    assert running[1].wait(30) == 0
    running[0].wait(10)
    for each in running:
        assert each.stdout is not None
        each.stdout.close()
    check_one_answer_and_row_each(endpoint, names, streams.answers())
    assert streams.pending() == 0
    consumers: Any = streams.client.xinfo_consumers(streams.source, "noregret")
    assert len(consumers) == 1  # whoever was killed left its name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("redis://host:6379/0", "names no stream"),
        ("redis://host:x/0?stream=a", "can't be read"),
        ("redis:?stream=a&db=3", "nothing but a stream"),
        ("kafka://host:9092", "was expected"),
        ("kafka://user:secret@host:9092/a", "was expected"),
        ("amqp://host/a", "was expected"),
    ],
)
def test_address__that_is_none__is_refused_without_its_password(text: str, said: str) -> None:
    with pytest.raises(AddressInvalid, match=said) as refused:
        parse(text)
    assert "secret" not in str(refused.value)


def test_address__told_in_the_log__holds_no_password() -> None:
    address = parse("rediss://user:secret@host:6379/2?stream=in&ssl_cert_reqs=none")
    assert str(address) == "rediss://host:6379/2?stream=in"
    assert address.server == "rediss://user:secret@host:6379/2?ssl_cert_reqs=none"
    assert str(parse("redis:?stream=in")) == "redis:?stream=in"


def test_sink__on_another_server__is_refused() -> None:
    source, sink = parse("redis://a/0?stream=in"), parse("redis://b/0?stream=out")
    wanted = making.Wanted("digits", source, sink, "g", "dead", 1, 0, 30.0, 60, False)
    with pytest.raises(CannotStart, match="two servers"):
        making.check(wanted)
