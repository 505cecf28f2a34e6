"""An endpoint on the device."""

import logging
import random
import ssl
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from noregret_client import transport
from noregret_client.connection import Address, Pool, Settings
from noregret_client.documents import Choice, Prediction
from noregret_client.errors import NoregretError, problem_of
from noregret_client.event_fields import check_context, check_exclude, check_text
from noregret_client.retrying import Attempts, Repeats, Retries
from noregret_client.rows import rows_of
from noregret_client.transport import Answer

from . import bundle as bundles
from . import models
from .assigning import assigned
from .bundle import Artifact, Bundle, BundleArm, PublicKey, Reward
from .choosing import Route, Uniform
from .fetching import Files
from .models import Model, ModelFailed
from .rewards import check_reward
from .shared_folder import artifacts_named
from .state import KeptArm, State
from .telling import Upload
from .trust import Trust

log = logging.getLogger("noregret_client")

_SKEW_SECONDS = 5.0
_FETCH_SECONDS = 600.0
_NOT_MODIFIED = 304
_encode = msgspec.json.Encoder().encode


class EdgeError(NoregretError):
    """This device can't decide."""


class NoBundle(EdgeError):
    """There is none yet, or its time is over: refresh."""


class NotRunnable(EdgeError):
    """No arm that may serve this request can be run on this device."""


class Uploaded(NamedTuple):
    """How many events were told, by what became of them, and how many still wait."""

    told: Mapping[str, int]
    waiting: int


class _PublicKeys(msgspec.Struct):
    keys: list[PublicKey]


class EdgeClient:
    """Decides and predicts for one endpoint on this device, in `folder`, which processes may share.

    `url` and `key` default to NOREGRET_URL and NOREGRET_KEY; the key needs the scope `edge` alone.
    `public_keys`: by id in base64url, those that the first bundle must be signed with; without them
    those that the platform tells when it is first asked. Bundles tell what is trusted after that.
    `limit`: so many decisions are kept that are not told yet; past that they are made, and not
    learnable. `uniform` gives numbers in [0, 1), for draws.
    """

    def __init__(
        self,
        endpoint: str,
        folder: str | Path,
        url: str | None = None,
        key: str | None = None,
        *,
        public_keys: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        retries: Retries | None = None,
        limit: int = 10_000,
        uniform: Uniform = random.random,
        verify: bool | ssl.SSLContext = True,
    ) -> None:
        self._endpoint = endpoint
        self._settings = Settings(Address.of(url, key), timeout, retries or Retries(), 4, verify)
        self._pool = Pool(self._settings)
        self._folder = Path(folder)
        self._state = State(self._folder / f"{endpoint}.sqlite", limit)
        self._files = Files(self._folder / "models")
        self._trust = Trust(self._state, public_keys, self._told_keys)
        self._uniform = uniform
        self._models: dict[str, Model] = {}
        self._unloadable: set[str] = set()
        self._loaded: tuple[bytes, Bundle] | None = None
        self._lock = threading.Lock()

    # From the platform

    def refresh(self) -> bool:
        """Fetch the bundle, and the files that it names and are not here, or damaged; False where
        nothing is new. Processes that share the folder do so one after another. Raises Problem,
        Unreachable, BundleNotTrusted."""
        before = self._state.get("bundle")
        answer = self._asked()
        if answer is None and self._are_files_whole(self._bundle()):
            self._unloadable = set()
            return False
        with self._files.alone(_FETCH_SECONDS) as is_alone:
            if self._state.get("bundle") != before:  # another process was first, with a newer one maybe
                answer = self._asked()
            if answer is None:
                return self._fetch_files(self._bundle())
            bundle = bundles.read(answer.content, self._trust.keys())
            if bundle.endpoint != self._endpoint:
                raise bundles.BundleNotTrusted(f"the bundle is of {bundle.endpoint}")
            self._fetch_files(bundle)
            learned = self._trust.learned_of(bundle, self.now())
            tag = answer.headers.get("etag", "").encode()
            self._state.put({"bundle": answer.content, "tag": tag, **learned})
            named = artifacts_named(self._folder) if is_alone else None
            if named is not None:
                self._files.keep_only(named)
        return True

    def _asked(self) -> Answer | None:
        """The bundle as it comes; None where it is the one that is here."""
        headers = {}
        with suppress(NoBundle, bundles.BundleNotTrusted):
            self._bundle()
            headers["If-None-Match"] = (self._state.get("tag") or b"").decode()
        answer = self._call("GET", f"/api/v1/endpoints/{self._endpoint}/edge", headers=headers)
        self._note_clock(answer)
        return None if answer.status == _NOT_MODIFIED else answer

    def _are_files_whole(self, bundle: Bundle) -> bool:
        return all(self._files.is_whole(artifact) for artifact in _files_of(bundle))

    def _fetch_files(self, bundle: Bundle) -> bool:
        fetched = False
        for artifact in _files_of(bundle):
            fetched |= self._files.fetch(self._pool.http(), artifact, _FETCH_SECONDS)
        self._unloadable = set()
        return fetched

    def _told_keys(self) -> list[PublicKey]:
        return msgspec.json.decode(self._call("GET", "/api/v1/edge/key").content, type=_PublicKeys).keys

    def _note_clock(self, answer: Answer) -> None:
        """A device's clock may be wrong, and bundles and events have times."""
        try:
            theirs = parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
        except ValueError:
            return
        ahead = theirs - time.time()
        self._state.put({"ahead": repr(ahead if abs(ahead) > _SKEW_SECONDS else 0.0).encode()})

    def now(self) -> float:
        """Unix time by the platform's clock, as it was when it was last asked."""
        return time.time() + float(self._state.get("ahead") or 0.0)

    def _call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        attempts = Attempts(self._settings.retries, self._settings.timeout, Repeats.SAFE)
        while True:
            try:
                http = self._pool.http()
                sent = {**(headers or {}), **({} if body is None else {"Content-Type": "application/json"})}
                request = http.build_request(method, path, content=body, headers=sent)
                answer = transport.send(http, request, attempts.remaining())
                if answer.status >= 400:
                    raise problem_of(answer.status, answer.reason, answer.headers, answer.content)
                return answer
            except NoregretError as error:
                time.sleep(attempts.pause_after(error))

    # On the device

    def _bundle(self) -> Bundle:
        """Raises NoBundle."""
        body = self._state.get("bundle")
        if body is None:
            raise NoBundle(f"there is no bundle of {self._endpoint} here: refresh first")
        loaded = self._loaded
        if loaded is None or loaded[0] != body:
            with self._lock:
                bundle = bundles.read(body, self._trust.keys())
                self._models, self._unloadable = {}, set()
                loaded = self._loaded = body, bundle
        return loaded[1]

    @property
    def bundle(self) -> Bundle:
        """The bundle that is in force. Raises NoBundle."""
        bundle = self._bundle()
        if self.now() >= bundle.expires_at.timestamp():
            raise NoBundle(f"the bundle of {self._endpoint} was good until {bundle.expires_at}: refresh")
        return bundle

    def decide(
        self,
        *,
        unit: str | None = None,
        context: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        exclude: Sequence[str] = (),
    ) -> Choice:
        """An arm and its payload. Raises NoBundle, NotRunnable where no arm is left, and ValueError
        for a field that the platform would not take, ContextInvalid among them."""
        context = _checked(unit, context, request_id)
        names = frozenset(check_exclude(exclude))
        bundle = self.bundle
        excluded = {i for i, arm in enumerate(bundle.arms) if arm.name is not None and arm.name in names}
        routed = assigned(bundle, self._state, unit, context, excluded, self._uniform)
        if routed is None:
            raise NotRunnable("every arm is excluded")
        route, kept = routed
        said = self._record(bundle, route, kept, unit, context, request_id, excluded, None)
        return Choice(**said, payload=bundle.arms[route.position].payload)

    def predict(
        self,
        rows: Any,
        *,
        unit: str | None = None,
        context: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        exclude: Sequence[str] = (),
    ) -> Prediction:
        """An arm's answer for these rows, as the platform's predict takes them. Arms that this
        device can't run are excluded; where the arm's model fails the control answers, and the
        decision teaches nothing. Raises NoBundle, NotRunnable, and ValueError for rows that are
        none of the models' and for a field that the platform would not take, ContextInvalid among
        them."""
        context = _checked(unit, context, request_id)
        names = frozenset(check_exclude(exclude))
        bundle = self.bundle
        values = models.values_of(bundle, rows_of(rows))
        excluded = {
            i
            for i, arm in enumerate(bundle.arms)
            if (arm.name is not None and arm.name in names) or not self._is_here(arm)
        }
        while True:
            routed = assigned(bundle, self._state, unit, context, excluded, self._uniform)
            if routed is None:
                raise NotRunnable(f"no arm of {self._endpoint} that is not excluded can be run here")
            route, kept = routed
            arm = bundle.arms[route.position]
            try:
                model = self._model(bundle, arm)
                break
            except ModelFailed as error:  # of this device: no fault of the arm that others would hear of
                log.warning("%s of %s can't be run here until a refresh: %s", arm.model, self._endpoint, error)
                excluded.add(route.position)
        fallback_reason = None
        try:
            outputs = model.predict(values)
        except ModelFailed as error:
            control = next((one for one in bundle.arms if one.control and one is not arm and self._is_here(one)), None)
            if control is None:
                raise NotRunnable(str(error)) from error
            arm, fallback_reason = control, "error"
            try:
                outputs = self._model(bundle, control).predict(values)
            except ModelFailed as failure:
                raise NotRunnable(str(failure)) from failure
        said = self._record(bundle, route, kept, unit, context, request_id, excluded, fallback_reason)
        return Prediction(**{**said, "model": arm.model}, outputs=outputs)

    def _is_here(self, arm: BundleArm) -> bool:
        if arm.model in self._unloadable:
            return False
        if arm.parameters is not None:
            return True
        return models.can_run(arm) and arm.artifact is not None and self._files.has(arm.artifact)

    def _model(self, bundle: Bundle, arm: BundleArm) -> Model:
        """Raises ModelFailed for one that can't be loaded, which is not tried again until a
        refresh."""
        loaded = self._models.get(arm.model)
        if loaded is None:

            def file() -> bytes:
                assert arm.artifact is not None
                return self._files.read(arm.artifact)

            try:
                loaded = self._models[arm.model] = models.load(arm, bundle.columns, file)
            except ModelFailed:
                self._unloadable.add(arm.model)
                raise
        return loaded

    def _record(
        self,
        bundle: Bundle,
        route: Route,
        kept: KeptArm | None,
        unit: str | None,
        context: dict[str, Any] | None,
        request_id: str | None,
        excluded: set[int],
        fallback_reason: str | None,
    ) -> dict[str, Any]:
        """Keep the decision, to be told; what is answered of it."""
        arm, identity, now = bundle.arms[route.position], str(uuid.uuid4()), self.now()
        event = {
            "type": "decision",
            "id": identity,
            "arm": arm.name,
            "propensity": route.propensities[route.position],
            "decided_at": _instant(now),
            "unit": unit,
            "context": context,
            "request_id": request_id,
            "holdout": route.holdout,
            "excluded": [name for i in sorted(excluded) if (name := bundle.arms[i].name) is not None],
            "fallback_reason": fallback_reason,
            "kept": None
            if kept is None or (kept.receipt == bundle.receipt and (bundle.choice == "draw" or kept.context == context))
            else {"receipt": kept.receipt, "context": kept.context},
        }
        is_kept = self._uniform() < bundle.record and self._state.add_decision(
            identity, bundle.receipt, now, _encode(event), _encode(bundle.reward)
        )
        return {
            "decision_id": identity,
            "endpoint": bundle.endpoint,
            "experiment": bundle.experiment,
            "arm": arm.name,
            "model": arm.model,
            "strategy": bundle.strategy,
            "propensity": route.propensities[route.position],
            "policy_version": bundle.version,
            "learnable": is_kept and fallback_reason is None,
            "fallback_reason": fallback_reason,
        }

    # To the platform

    def feedback(self, decision_id: str, value: float | bool, metric: str | None = None) -> bool:
        """Keep how a decision of this device went, to be told; False where the decision is not
        known here, or this metric of it waits to be told already. Raises ValueError for a value
        that the platform would not take."""
        if hasattr(value, "item"):  # of an array
            value = value.item()
        known, rules = self._state.reward_of(str(decision_id))
        if not known:
            return False
        check_reward(value, metric, None if rules is None else msgspec.json.decode(rules, type=Reward | None))
        event = {
            "type": "reward",
            "decision_id": decision_id,
            "value": value,
            "metric": metric,
            "occurred_at": _instant(self.now()),
        }
        return self._state.add_reward(decision_id, metric or "", _encode(event))

    @property
    def waiting(self) -> int:
        """Events that are still to be told."""
        return self._state.waiting()

    def upload(self) -> Uploaded:
        """Tell what waits, in batches. What was told is forgotten here once the platform has
        committed it: what is told twice it takes once. A body that the platform can't use, for one
        event of it, is told by halves: that event is `invalid`, and holds up no other. Raises
        Problem and Unreachable for all else, and then keeps what was not told: try again later."""

        def post(body: bytes) -> bytes:
            return self._call("POST", "/api/v1/edge/events", body).content

        upload = Upload(self._state, post)
        upload.run()
        self._state.forget(self.now())
        return Uploaded(dict(upload.told), self._state.waiting())

    def close(self) -> None:
        self._pool.close()
        self._state.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _files_of(bundle: Bundle) -> list[Artifact]:
    """What this device runs its arms from."""
    return [arm.artifact for arm in bundle.arms if arm.artifact is not None and models.needs_file(arm)]


def _instant(at: float) -> str:
    return datetime.fromtimestamp(at, tz=UTC).isoformat().replace("+00:00", "Z")


def _checked(unit: Any, context: Any, request_id: Any) -> dict[str, Any] | None:
    """The context. Raises ValueError for what the platform would not take."""
    check_text("unit", unit)
    check_text("request_id", request_id)
    return check_context(context)
