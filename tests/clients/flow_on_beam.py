"""Apache Beam with noregret_client.beam, in an environment that has Beam, and the client's source
on PYTHONPATH. Runs the pipeline `what`, and prints how long it took as JSON.
"""

import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from noregret_client.beam import Feedback, Platform, Predict

GIVEN = json.loads(sys.argv[-1])
PLATFORM = Platform(GIVEN["url"], GIVEN["key"], timeout=float(GIVEN.get("timeout", 60)))


class _Kept(beam.DoFn):
    """Writes what comes by into a file of the machine."""

    def __init__(self, path: str, told: Callable[[Any], Any]) -> None:
        self._path, self._told = path, told

    def process(self, element: Any, window: Any = beam.DoFn.WindowParam, at: Any = beam.DoFn.TimestampParam) -> None:
        with open(self._path, "a") as file:
            file.write(json.dumps([*self._told(element), at.micros, str(window)]) + "\n")


def kept(name: str, told: Callable[[Any], Any]) -> beam.PTransform:
    return name >> beam.ParDo(_Kept(str(Path(GIVEN["folder"]) / name), told))


def answered(one: Any) -> list[Any]:
    return [one.answer.request_id, one.answer.decision_id, one.answer.arm]


def failed(one: Any) -> list[Any]:
    return [str(one.element)[:500], one.reason, one.status, one.detail]


def requests(first: int, last: int) -> list[dict[str, Any]]:
    return [
        {"request_id": f"{GIVEN['name']}-{n}", "unit": f"{GIVEN['name']}-{n}", "inputs": [[n / 7]]}
        for n in range(first, last)
    ]


def several(pipeline: beam.Pipeline) -> None:
    """Good and bad requests, in windows, and rewards of what was answered, twice."""
    good = [TimestampedValue(request, n) for n, request in enumerate(requests(0, 250))]
    bad = [
        TimestampedValue(element, 300)
        for element in ("no request", {"inputs": [[1.0]]}, {"request_id": "x", "inputs": [["text"]]})
    ]
    came = pipeline | beam.Create(good + bad) | beam.Map(lambda one: one) | beam.WindowInto(FixedWindows(60))
    answers, refused = came | Predict(GIVEN["endpoint"], platform=PLATFORM)
    answers | kept("answered", answered)
    refused | kept("failed", failed)
    rewards = answers | beam.FlatMap(lambda one: [(one.answer.decision_id, one.element["request_id"])] * 2)
    as_reward = lambda pair: {"decision_id": pair[0], "value": 1 if pair[1].endswith("7") else 0}  # noqa: E731
    recorded, _ = rewards | Feedback(as_reward, platform=PLATFORM)
    recorded | kept("recorded", lambda one: [one.element[1], one.status])
    timed = [
        {"decision_id": "forged", "value": 1, "occurred_at": at}
        for at in ("2026-11-26T17:00:00Z", Timestamp(1_795_000_000), "yesterday", 7)
    ]
    too_large = {"decision_id": "f" * 2_000_000, "value": 1}
    _, unknown = pipeline | "forged" >> beam.Create([*timed, 7, too_large]) | "bad" >> Feedback(platform=PLATFORM)
    unknown | kept("unknown", failed)
    _, raised = (
        pipeline
        | "short" >> beam.Create([[1.0], [0.0, 1.0]])
        | "row" >> Predict(GIVEN["endpoint"], as_rows, platform=PLATFORM)
    )
    raised | kept("raised", failed)


def as_rows(element: list[float]) -> dict[str, Any]:
    """A row is too short, and of another the number is no divisor."""
    return {"request_id": "row", "inputs": [[element[1] / element[0]]]}


def slowly(pipeline: beam.Pipeline) -> None:
    """Many requests that take a while, so that a kill meets them."""

    def after_a_pause(request: dict[str, Any]) -> dict[str, Any]:
        time.sleep(GIVEN["pause"])
        return request

    came = pipeline | beam.Create(requests(0, GIVEN["requests"])) | beam.Map(after_a_pause)
    answers, refused = came | Predict(GIVEN["endpoint"], platform=PLATFORM, batch=20)
    answers | kept("answered", answered)
    refused | kept("failed", failed)


def unbounded(pipeline: beam.Pipeline) -> None:
    """A stream whose watermark goes on."""
    stream = TestStream()
    for part in range(5):
        stream = stream.advance_watermark_to(10 * part).add_elements(requests(20 * part, 20 * part + 20))
    came = pipeline | stream.advance_watermark_to_infinity() | beam.WindowInto(FixedWindows(10))
    answers, refused = came | Predict(GIVEN["endpoint"], platform=PLATFORM)
    answers | kept("answered", answered)
    refused | kept("failed", failed)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    began = time.monotonic()
    options = PipelineOptions(GIVEN.get("options", []))
    with beam.Pipeline(options=options) as pipeline:
        globals()[GIVEN["what"]](pipeline)
    print(json.dumps({"seconds": time.monotonic() - began}))
