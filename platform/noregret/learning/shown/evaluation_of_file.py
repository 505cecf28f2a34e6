"""What another policy would have earned on a file of logged traffic, in the form of
decisions.ndjson. No row of the ledger enters."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from bandits.context import ContextInvalid, ContextSchema
from bandits.ope import Log
from bandits.reward import RewardModel
from noregret.experiments.models import Experiment
from noregret.learning.buckets import GRACE_SECONDS
from serving.times import Time

from .evaluation import Evaluation, NotEvaluated, answer, numbered


class LineInvalid(ValueError):
    """A line of a file is no logged decision."""


class _Line(msgspec.Struct):
    """What of a line of decisions.ndjson is needed."""

    arm: str | None
    propensity: float
    context: dict[str, Any] | None = None
    reward: float | bool | None = None
    fallback_reason: str | None = None
    unit: str | None = None
    decided_at: Time | None = None
    rewarded_at: Time | None = None
    propensities: dict[str, float] | None = None
    holdout: bool = False
    excluded: list[str] = []
    activated: bool = True
    learnable: bool = True


@dataclass(frozen=True, slots=True)
class FileTerms:
    """What a file does not say of itself. An experiment's (`FileTerms.of`), or as people tell it.

    `window_seconds` is the reward's attribution window and `default` what no feedback in it means,
    None where it means nothing; `as_of` is when the file was made, without it the latest time in
    it. Without a `kind` rewards that are all 0 and 1 are binary. `arms` by name, without them those
    that occur.
    """

    window_seconds: float | None = None
    default: float | None = None
    as_of: datetime | None = None
    kind: str | None = None
    direction: str = "maximize"
    minimum: float | None = None
    maximum: float | None = None
    fields: Sequence[Mapping[str, Any]] = ()
    floor: float = 0.0
    burn_in: float = 0.0
    arms: Sequence[str] = ()

    @classmethod
    def of(cls, experiment: Experiment) -> "FileTerms":
        reward, policy = experiment.reward_, experiment.policy_
        return cls(
            window_seconds=reward.window_seconds,
            default=reward.default,
            kind=reward.kind,
            direction=reward.direction,
            minimum=reward.minimum,
            maximum=reward.maximum,
            fields=msgspec.to_builtins(experiment.context_.fields),
            floor=0.0 if policy is None else policy.floor,
            burn_in=0.0 if policy is None else float(policy.burn_in),
            arms=list(experiment.arms.order_by("position").values_list("name", flat=True)),
        )


def of_lines(
    lines: Iterable[bytes], policy: str, params: Mapping[str, Any], terms: FileTerms | None = None
) -> Evaluation:
    """The evaluation document of a file in the form of decisions.ndjson. Raises NotEvaluated,
    LineInvalid."""
    terms = terms or FileTerms()
    read = _read(lines, terms)
    kept, left_out, unanswered, as_of = _matured(read, terms)
    if not kept and left_out["open"] and terms.window_seconds is not None:
        raise NotEvaluated(
            f"no decision in the file has matured: {left_out['open']:,} were made less than the window of {terms.window_seconds:g} "
            f"seconds before {as_of}, when it was made"
        )
    if not kept:
        raise NotEvaluated("no line has an arm and a reward")
    if terms.window_seconds is None and left_out["unanswered"]:
        raise NotEvaluated(
            f"{left_out['unanswered']:,} lines have no reward, and nothing tells whether their windows are still open: the reward's "
            "window is needed, and its default where no feedback means a reward",
            "window",
        )
    names = list(terms.arms) or sorted(
        {name for line, _ in kept for name in (str(line.arm), *(line.propensities or {}))}
    )
    position = {name: i for i, name in enumerate(names)}
    strangers = sorted({str(line.arm) for line, _ in kept} - position.keys())
    if strangers:
        raise NotEvaluated(f"the experiment has no arm {strangers[0][:80]}")
    rewards = np.array([value for _, value in kept])
    kind = terms.kind
    if kind is None:
        kind = "binary" if bool(np.isin(rewards, (0.0, 1.0)).all()) else "continuous"
    try:
        reward = RewardModel(kind, terms.direction, terms.minimum, terms.maximum)  # type: ignore[arg-type]  # it checks them itself
        schema = ContextSchema.from_document(terms.fields) if terms.fields else None
        x = None if schema is None else schema.encode_all([line.context for line, _ in kept])
    except (ContextInvalid, ValueError, KeyError) as error:
        raise NotEvaluated(str(error)) from error
    log = Log(
        np.array([position[str(line.arm)] for line, _ in kept], dtype=np.int64),
        rewards,
        _propensities([line for line, _ in kept], names),
        len(names),
        x,
        numbered([line.unit for line, _ in kept]),
        names,
        _eligible([line for line, _ in kept], names),
    )
    return answer(
        log,
        names,
        reward,
        policy,
        params,
        floor=terms.floor,
        burn_in=terms.burn_in,
        left_out=left_out,
        unanswered=Counter({position[arm]: count for arm, count in unanswered.items() if arm in position}),
        matured_until=None if as_of is None or terms.window_seconds is None else _before(as_of, terms.window_seconds),
    )


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()


def _before(at: datetime, seconds: float) -> datetime | None:
    """None where the calendar begins later."""
    try:
        return at - timedelta(seconds=seconds)
    except OverflowError:
        return None


def _read(lines: Iterable[bytes], terms: FileTerms) -> list[_Line]:
    """The lines in order of decision time. Raises LineInvalid."""
    decoder = msgspec.json.Decoder(_Line)
    read: list[_Line] = []
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            line = decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LineInvalid(f"line {number}: {error}") from error
        if not 0.0 < line.propensity <= 1.0 + 1e-9 or not math.isfinite(line.reward or 0.0):
            raise LineInvalid(f"line {number}: a propensity in (0, 1] and a finite reward were expected")
        every = line.propensities
        if every is not None and (
            not all(0.0 <= share <= 1.0 + 1e-9 for share in every.values())
            or abs(sum(every.values()) - 1.0) > 1e-6
            or abs(every.get(str(line.arm), 0.0) - line.propensity) > 1e-6
        ):
            raise LineInvalid(
                f"line {number}: propensities of every arm were expected that sum to 1, with the arm's own as propensity says"
            )
        if terms.window_seconds is not None and line.decided_at is None:
            raise LineInvalid(f"line {number}: decided_at was expected, to tell whether the decision has matured")
        read.append(line)
    timed = [(line.decided_at, i) for i, line in enumerate(read) if line.decided_at is not None]
    return [read[i] for _, i in sorted(timed)] if len(timed) == len(read) else read


def _matured(
    read: Sequence[_Line], terms: FileTerms
) -> tuple[list[tuple[_Line, float]], Counter[str], Counter[str], datetime | None]:
    """(matured lines with their rewards, how many were left out by reason, unanswered ones by arm,
    when the file was made)."""
    times = [at for line in read for at in (line.decided_at, line.rewarded_at) if at is not None]
    as_of = terms.as_of or max(times, default=None)
    kept: list[tuple[_Line, float]] = []
    left_out: Counter[str] = Counter()
    unanswered: Counter[str] = Counter()
    for line in read:
        value = None if line.reward is None else float(line.reward)
        if terms.window_seconds is not None and line.decided_at is not None and as_of is not None:
            # In seconds: an end of a window may lie beyond the calendar's.
            late = line.rewarded_at is not None and (
                _seconds(line.decided_at, line.rewarded_at) > terms.window_seconds + GRACE_SECONDS
            )
            # What came after the window is the default that was given then, or feedback that came
            # too late.
            value = terms.default if value is None or late else value
            is_open = terms.window_seconds > _seconds(line.decided_at, as_of)
        else:
            is_open = False
        if line.fallback_reason is not None:
            left_out["fallback"] += 1
        elif line.holdout:
            left_out["holdout"] += 1
        elif not line.activated:
            left_out["not_activated"] += 1
        elif not line.learnable:
            left_out["not_learnable"] += 1
        elif line.arm is None:
            left_out["unreadable"] += 1
        elif is_open:
            left_out["open"] += 1
        elif value is None:
            left_out["unanswered"] += 1
            unanswered[line.arm] += 1
        else:
            kept.append((line, value))
    return kept, left_out, unanswered, as_of


def _eligible(lines: Sequence[_Line], names: Sequence[str]) -> Any:
    """The arms that each request was for, (n, K); None where all were for all."""
    if not any(line.excluded for line in lines):
        return None
    return np.array([[name not in line.excluded for name in names] for line in lines])


def _propensities(lines: Sequence[_Line], names: Sequence[str]) -> Any:
    """Every arm's (n, K) where all lines have them, else the chosen one's (n,)."""
    if any(line.propensities is None for line in lines):
        return np.array([min(line.propensity, 1.0) for line in lines])
    return np.array([[min((line.propensities or {}).get(name, 0.0), 1.0) for name in names] for line in lines])
