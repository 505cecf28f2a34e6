"""What an exported package is called by: it chooses, predicts and takes feedback offline, and
uploads what it logged when it is told to.

It chooses by the service's own files. Without a seed it draws from the operating system, so that
processes that were forked do not draw alike.
"""

import json
import logging
import os
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

from serving import choosing
from serving.assignment import Assignment
from serving.choosing import EXCLUDED, Chosen
from serving.runtimes.columns import Rows
from serving.runtimes.large_numbers import errors_of_caller
from serving.runtimes.rows import RowsInvalid
from serving.runtimes.runtime import NotFinite, Outputs, RowsRefused

from . import given
from .event_fields import check_context, check_exclude, check_text
from .frozen import SNAPSHOT, Frozen, FrozenModel, FrozenSeat, thaw
from .journal import MOST_BYTES, MOST_DECISIONS, Journal, KeptArm, LogUnavailable
from .rewards import AHEAD_SECONDS, FeedbackRefused, check_metric, problem_of, utc_of
from .uploading import Uploaded, upload

log = logging.getLogger(__name__)

_NO_OUTPUTS: Outputs = {}


class ModelFailed(Exception):
    """The champion itself could not answer: there is nobody left to fall back on."""


class Router:
    """One endpoint, as it was exported. For any number of threads, and of processes that share its
    log."""

    contents: ClassVar[Path]
    """Where the package keeps its snapshot and models: each package says so of itself."""

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        seed: int | None = None,
        most_decisions: int = MOST_DECISIONS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """`folder`: where the log is, by default `.noregret/ENDPOINT` in the user's home. `seed`:
        of every draw; None for numbers that nobody can repeat. At most `most_decisions` wait in the
        log for their upload, and it has at most about `most_bytes` bytes.

        Raises ValueError and serving's ModelError for a package that can't be read.
        """
        uniform = random.SystemRandom().random if seed is None else random.Random(seed).random
        document = json.loads((self.contents / SNAPSHOT).read_text("utf-8"))
        self._live = thaw(document, self.contents, uniform)
        self._sampled = random.SystemRandom().random
        self.folder = Path.home() / ".noregret" / self._live.name if folder is None else Path(folder)
        if "\0" in str(self.folder):
            raise ValueError("folder: a path was expected, which can't hold NUL")
        self._journal = Journal(self.folder, most_decisions, most_bytes)
        self._is_told = False

    @property
    def endpoint(self) -> str:
        return self._live.name

    @property
    def version(self) -> int:
        """Of the snapshot."""
        return self._live.version

    def predict(
        self,
        inputs: Any,
        unit: str | None = None,
        context: dict[str, Any] | None = None,
        *,
        request_id: str | None = None,
        exclude: Sequence[str] = (),
    ) -> dict[str, Any]:
        """What the service's predict answers, as a dict. `inputs`: an (n, features) array, or rows
        as lists or as mappings by feature name.

        Raises ValueError, which says which field is wrong, and ModelFailed when the champion can't
        answer.
        """
        live = self._live
        chosen, keeping = self._choose(unit, context, request_id, exclude)
        # By the champion's signature, whichever arm was chosen: whether a request is right can't
        # depend on chance.
        rows = given.rows_of(inputs, live.champion_seat.model)
        model, outputs, reason = self._served(chosen.seat.model, rows)
        answer = self._decided(chosen, keeping, model, reason, unit, request_id)
        return answer | {"outputs": outputs}

    def decide(
        self,
        unit: str | None = None,
        context: dict[str, Any] | None = None,
        *,
        request_id: str | None = None,
        exclude: Sequence[str] = (),
    ) -> dict[str, Any]:
        """The same for who runs the model, prompt or page: in place of outputs the arm's payload.
        Raises ValueError."""
        chosen, keeping = self._choose(unit, context, request_id, exclude)
        answer = self._decided(chosen, keeping, chosen.seat.model, None, unit, request_id)
        return answer | {"payload": chosen.seat.payload}

    def feedback(
        self,
        decision_id: str,
        value: float | bool,
        metric: str | None = None,
        *,
        occurred_at: datetime | None = None,
    ) -> dict[str, str]:
        """Log a reward: `{"status": "recorded"}`, `duplicate` for the same value again, `late`
        after the attribution window. Raises FeedbackRefused, and LogUnavailable where the log takes
        nothing."""
        reward = self._live.reward
        decision = self._journal.decision(str(decision_id))
        if decision is None:
            raise FeedbackRefused("unknown", "no decision of this log has this id")
        if not decision.learnable:
            raise FeedbackRefused("not_learnable", "this decision was answered with learnable: false")
        name = check_metric(metric, reward)
        problem = problem_of(value, name, reward)
        if problem is not None:
            raise FeedbackRefused("invalid", problem)
        at = datetime.now(UTC) if occurred_at is None else utc_of(occurred_at)
        if at.timestamp() < decision.decided_at - AHEAD_SECONDS:
            raise FeedbackRefused("invalid", "occurred_at: it is before its decision")
        told = json.dumps(value)
        event = {
            "type": "reward",
            "decision_id": str(decision_id),
            "value": value,
            "metric": name,
            "occurred_at": _told(at),
        }
        before = self._journal.add_reward(str(decision_id), name, told, json.dumps(event))
        if before is not None:
            if float(json.loads(before)) != float(value):
                raise FeedbackRefused("conflict", "another value was given for this decision and metric")
            return {"status": "duplicate"}
        is_late = reward is not None and at.timestamp() - decision.decided_at > reward.window_seconds
        return {"status": "late" if is_late else "recorded"}

    def upload(self, url: str, key: str, *, timeout: float = 30.0) -> Uploaded:
        """Send what was logged to the platform at `url`, with a key of scope `edge`; what it has is
        forgotten here once no feedback is expected on it. Safe to repeat: each event is there once.

        `timeout` of each request, in seconds. Raises UploadFailed, and LogUnavailable.
        """
        done = upload(self._journal, url, key, timeout)
        window = 0.0 if self._live.reward is None else self._live.reward.window_seconds
        self._journal.forget_uploaded(time.time() - window)
        return done

    @property
    def waiting(self) -> tuple[int, int]:
        """How many decisions and rewards wait for their upload. Raises LogUnavailable."""
        return self._journal.waiting()

    def close(self) -> None:
        self._journal.close()

    # A decision's three steps, as the service takes them.

    def _choose(
        self, unit: str | None, context: dict[str, Any] | None, request_id: str | None, exclude: Sequence[str]
    ) -> tuple[Chosen[FrozenSeat], "Keeping"]:
        check_text("unit", unit)
        check_text("request_id", request_id)
        keeping = Keeping(self._journal, self._live, check_context(context))
        return choosing.route(keeping, self._live, unit, keeping.context, list(check_exclude(exclude))), keeping

    def _served(self, chosen: FrozenModel, rows: Rows) -> tuple[FrozenModel, Outputs, str | None]:
        """Who answered, what, and why not the chosen model."""
        champion = self._live.champion_seat.model
        if chosen is not champion:
            try:
                return chosen, chosen.runtime.predict(rows), None
            except Exception as error:  # whatever a model raises, the champion answers
                log.warning("arm failed: %s of %s: %r", chosen.name, self._live.name, error)
        try:
            outputs = champion.runtime.predict(rows)
        except RowsRefused as error:
            message = f"{champion.name} does not take these rows: {error}"
            raise RowsInvalid([{"field": "inputs", "message": message}]) from error
        except NotFinite as error:
            too_large = errors_of_caller(rows, error)
            if too_large:
                raise RowsInvalid(too_large) from error
            raise ModelFailed(f"{champion.name}: {error}") from error
        except Exception as error:
            raise ModelFailed(f"{champion.name}: {error}") from error
        return champion, outputs, None if chosen is champion else "error"

    def _decided(
        self,
        chosen: Chosen[FrozenSeat],
        keeping: "Keeping",
        model: FrozenModel,
        reason: str | None,
        unit: str | None,
        request_id: str | None,
    ) -> dict[str, Any]:
        """Log the decision; what is answered of it."""
        live, at, decision_id = self._live, time.time(), str(uuid4())
        is_fresh = at <= live.expires_at
        if not chosen.by_arm and reason is None:
            reason = EXCLUDED
        names = {seat.arm_id: seat.arm for seat in live.seats}
        event = {
            "type": "decision",
            "id": decision_id,
            "arm": chosen.seat.arm,
            "propensity": chosen.propensity,
            "decided_at": _told(datetime.fromtimestamp(at, UTC)),
            "unit": unit,
            "context": keeping.context,
            "holdout": chosen.holdout,
            "excluded": [names[arm] for arm in chosen.excluded or ()],
            "request_id": request_id,
            "fallback_reason": reason,
            "kept": keeping.told(),
        }
        is_kept = chosen.by_arm and is_fresh and self._keep(decision_id, event, at, learnable=reason is None)
        return {
            "decision_id": decision_id,
            "endpoint": live.name,
            "experiment": live.experiment,
            "arm": chosen.seat.arm,
            "model": model.name,
            "strategy": live.strategy,
            "propensity": chosen.propensity,
            "policy_version": live.version,
            "learnable": is_kept and reason is None,
            "stale": not is_fresh,
            "fallback_reason": reason,
        }

    def _keep(self, decision_id: str, event: dict[str, Any], at: float, *, learnable: bool) -> bool:
        live = self._live
        if live.receipt is None or (live.record < 1.0 and self._sampled() >= live.record):
            return False
        try:
            self._journal.add_decision(decision_id, live.receipt, json.dumps(event), learnable=learnable, at=at)
        except LogUnavailable as error:
            if not self._is_told:  # once, and not at each of a million decisions
                log.error("decisions of %s are not kept: %s", live.name, error)
                self._is_told = True
            return False
        self._is_told = False
        return True


class Keeping:
    """Where the unit of one request keeps its arm: the package's log (a Keeps of
    serving.choosing)."""

    def __init__(self, journal: Journal, live: Frozen, context: dict[str, Any] | None) -> None:
        self._journal = journal
        self._live = live
        self.context = context
        self._kept: KeptArm | None = None

    def known(self, experiment_id: int, unit: str, arms: Sequence[int]) -> Assignment | None:
        """None: the log is asked each time, for another process may write to it."""
        return None

    def get(
        self, endpoint: str, experiment_id: int, unit: str, proposed: Assignment, arms: Sequence[int]
    ) -> Assignment:
        try:
            kept = self._journal.kept(experiment_id, unit)
            if kept is None or kept.assignment.arm_id not in arms:
                drawn = KeptArm(proposed, self._live.receipt, self.context)
                before = None if kept is None else kept.assignment.arm_id
                kept = self._journal.keep(experiment_id, unit, drawn, before)
                if kept is drawn or kept.assignment.arm_id not in arms:
                    return proposed
        except LogUnavailable:  # its hash gives it the same arm, as long as the snapshot is the same
            return proposed
        self._kept = kept
        return kept.assignment

    def told(self) -> dict[str, Any] | None:
        """Of an arm that was drawn before this request: how, where this package's receipt does not
        say it."""
        kept, live = self._kept, self._live
        if kept is None or kept.receipt is None or (kept.receipt == live.receipt and live.schema is None):
            return None
        return {"receipt": kept.receipt, "context": kept.context}


def _told(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
