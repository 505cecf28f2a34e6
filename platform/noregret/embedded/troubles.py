"""What `/readyz` finds wrong, in sentences for who started the platform: each with what to do about
it.

Of a document that came over HTTP, so nothing of what serves is loaded here.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Found = Mapping[str, Any]
"""What one check told (serving.readiness)."""


def sentences(checks: Mapping[str, Found]) -> dict[str, str]:
    """By what they are of, what can't be served first; one cause of several checks is told once."""
    wrong = [name for name, found in checks.items() if not found["ok"]]
    sentences: dict[str, str] = {}
    causes: set[str] = set()
    for name in sorted(wrong, key=lambda name: not checks[name]["serves"]):
        found = checks[name]
        cause = found.get("problem")
        if cause is None:
            tell = _FOUND.get(name, _other)
            sentences |= {f"{name} {whose}": sentence for whose, sentence in tell(found)}
        elif cause not in causes:
            causes.add(cause)
            sentences[name] = f"{_UNKNOWN.get(name, name)}: {cause}."
    return sentences


_Told = Iterator[tuple[str, str]]
"""Whose trouble, and the sentence."""


def _champions(found: Found) -> _Told:
    for endpoint, problem in found["not_loaded"].items():
        yield (
            endpoint,
            f"Endpoint {endpoint} answers 503, for its champion is not loaded: {problem}. {_mend(problem)} Or make "
            f"another version the champion: on the endpoint's page, or by PATCH /api/v1/endpoints/{endpoint} with "
            '{"champion": "NAME@VERSION"}.',
        )


def _challengers(found: Found) -> _Told:
    for arm, problem in found["not_loaded"].items():
        yield arm, f"The champion answers for the arm {arm}, which is not loaded: {problem}. {_mend(problem)}"


def _mend(problem: str) -> str:
    if "ArtifactMissing" in problem:
        return "It loads by itself once its file is back."
    return "It is tried again by itself: mend what it says."


def _learner(found: Found) -> _Told:
    for endpoint, lag in found["lagging"].items():
        yield (
            endpoint,
            f"The learner is {lag['seconds']:.0f} s behind with {endpoint or 'every endpoint'}: {lag['why']}.",
        )
    if not found["lagging"]:
        seconds = found["seconds_since_round"]
        heard = "has not been heard of yet" if seconds is None else f"was last heard of {seconds:.0f} s ago"
        yield "", f"The learner {heard}: logs/worker.log and logs/beat.log tell why. What comes is kept meanwhile."


def _migrations(found: Found) -> _Told:
    yield "", f"{found['missing']} migrations are missing: run `manage.py migrate`."


def _redis(found: Found) -> _Told:
    yield "", f"{found['slots_without_server']} slots of the Redis Cluster have no server."


def _snapshots(found: Found) -> _Told:
    yield "", "Nothing can be served: no snapshot was ever read. Redis should hold them."


def _other(found: Found) -> _Told:
    yield "", f"A check is not well: {dict(found)}."


_FOUND: dict[str, Callable[[Found], _Told]] = {
    "champions": _champions,
    "challengers": _challengers,
    "learner": _learner,
    "migrations": _migrations,
    "redis": _redis,
    "snapshots": _snapshots,
}
_UNKNOWN = {
    "database": "Feedback is answered 503",
    "migrations": "Whether migrations are missing is not known",
    "redis": "Redis does not answer",
    "learner": "Whether anything is learned is not known",
    "snapshots": "Nothing can be served",
    "champions": "No champion can be asked for",
    "challengers": "No challenger can be asked for",
    "replica": "Figures are read from the primary",
}
"""What follows where a check ended with a problem."""
