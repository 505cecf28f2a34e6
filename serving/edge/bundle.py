"""An endpoint's snapshot, cut to what a device needs: no key, no secret, and no statistic that its
choice does without.

Every process makes the same bytes of the same snapshot, for its lifetime follows from the clock in
slots; so a tag names a bundle whoever answers. The tag is of what a device would do by it: a
snapshot that is published anew with the same propensities gives the same.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from serving import problems
from serving.artifacts import ArtifactMissing, ArtifactStore
from serving.live import LiveEndpoint, LiveModel
from serving.runtimes.columns import Column
from serving.runtimes.linear import LinearForm, LinearRuntime
from serving.snapshot import Endpoint
from serving.times import told

from .receipt import Receipts, TooLarge, choice_of, receipt_of
from .signing import BundleSigner, PublicKey

_KEPT = 64
_ONNX = "onnx"


class BundleArtifact(Struct, frozen=True):
    """A model file. `url` is an address of this service."""

    sha256: str
    bytes: int
    url: str
    format: str


class BundleArm(Struct, frozen=True):
    """An arm as a device may run it: from its file, from its parameters, or not at all."""

    name: str | None
    model: str
    control: bool
    enabled: bool
    propensity: float | None
    payload: Any
    outputs: list[str]
    artifact: BundleArtifact | None
    parameters: LinearForm | None


class BundlePolicy(Struct, frozen=True):
    """How a contextual policy makes propensities of what is believed."""

    name: str
    params: dict[str, Any]
    floor: float
    burn_in: int


class BundleBelief(Struct, frozen=True):
    """What a contextual policy believes, by arm position."""

    mean: list[list[float]]
    covariance: list[list[list[float]]]
    counts: list[float]


class BundleReward(Struct, frozen=True):
    """What a reward must be."""

    metric: str
    kind: str
    minimum: float | None
    maximum: float | None
    window_seconds: float
    declared: bool
    """False: of a single deployment whose endpoint names no reward."""


class Bundle(Struct, frozen=True):
    """All that a device decides by (docs/edge.md)."""

    endpoint: str
    version: int
    issued_at: str
    expires_at: str
    experiment: str | None
    experiment_id: int
    strategy: str
    choice: str
    sticky: bool
    holdout: float
    record: float
    deadline_ms: int
    arms: list[BundleArm]
    columns: tuple[Column, ...] | None
    features: int | None
    feature_names: list[str] | None
    context: list[dict[str, Any]]
    policy: BundlePolicy | None
    belief: BundleBelief | None
    reward: BundleReward | None
    receipt: str
    keys: list[PublicKey]
    """What a device trusts from here on, the one that signs first."""
    key_id: str


class SignedBundle(Bundle, frozen=True):
    """As it is answered."""

    signature: str


class Issued(NamedTuple):
    """A bundle as it goes out, and the tag of what it says."""

    body: bytes
    tag: str


_encode = msgspec.json.Encoder().encode


class Issuer:
    """Makes bundles, and keeps the last ones made. `lifetime` in seconds: a bundle has at least
    half of it left when it is fetched."""

    def __init__(
        self,
        receipts: Receipts,
        signer: BundleSigner,
        artifacts: Callable[[], ArtifactStore],
        lifetime: float,
    ) -> None:
        self._receipts = receipts
        self._signer = signer
        self._artifacts = artifacts
        self._lifetime = lifetime
        self._issued: OrderedDict[Any, Issued] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    def issue(self, live: LiveEndpoint, now: float) -> Issued:
        """The bundle of an endpoint at a Unix time. Raises Problem 409 or 503."""
        document = live.document
        slot = int(now // (self._lifetime / 2))
        loaded = tuple(isinstance(model.runtime, LinearRuntime) for model in live.models())
        key = document.name, document.version, slot, loaded
        issued = self._issued.get(key)
        if issued is None:
            issued = self._made(live, slot)
            with self._lock:
                self._issued[key] = issued
                while len(self._issued) > _KEPT:
                    self._issued.popitem(last=False)
        return issued

    def _made(self, live: LiveEndpoint, slot: int) -> Issued:
        document = live.document
        begins = slot * (self._lifetime / 2)
        issued_at, expires_at = max(begins, document.published_at), begins + self._lifetime
        choice = choice_of(document)
        receipt = receipt_of(document, choice, issued_at, expires_at)
        try:
            signed_receipt = self._receipts.sign(receipt)
        except TooLarge as error:
            raise problems.conflict(
                f"what the policy of {document.name} believes is too much for a device: fewer arms or features were expected"
            ) from error
        rules = receipt.rules
        bundle = Bundle(
            document.name,
            document.version,
            _instant(issued_at),
            _instant(expires_at),
            live.experiment,
            live.experiment_id,
            live.strategy,
            choice,
            receipt.is_sticky,
            receipt.holdout,
            receipt.record,
            document.deadline_ms,
            [
                BundleArm(
                    seat.name,
                    place.live.model.model,
                    seat.is_control,
                    seat.enabled,
                    None if choice == "context" else seat.propensity,
                    place.payload,
                    place.live.model.outputs,
                    self._artifact(place.live),
                    _parameters(place.live),
                )
                for seat, place in zip(receipt.seats, live.seats, strict=True)
            ],
            live.champion.model.columns,
            live.champion.model.features,
            live.champion.model.feature_names,
            [] if document.experiment is None else document.experiment.context,
            None if rules is None else BundlePolicy(rules.policy, rules.params, rules.floor, rules.burn_in),
            None if rules is None else BundleBelief(rules.mean, rules.covariance, rules.counts),
            _reward(document),
            signed_receipt,
            self._signer.public().keys,
            self._signer.key_id,
        )
        alike = msgspec.structs.replace(bundle, version=0, issued_at="", expires_at="", receipt="")
        tag = hashlib.sha256(b"%d:%b" % (slot, _encode(alike))).hexdigest()[:32]
        return Issued(self._signer.signed(_encode(bundle)), f'"{tag}"')

    def _artifact(self, live: LiveModel) -> BundleArtifact | None:
        sha256 = file_of(live)
        if sha256 is None:
            return None
        if sha256 not in self._sizes:
            try:
                self._sizes[sha256] = self._artifacts().size(sha256)
            except ArtifactMissing as error:
                raise problems.unavailable(f"a model file can't be had: {error}", retry_after=5) from error
        return BundleArtifact(sha256, self._sizes[sha256], f"/api/v1/artifacts/{sha256}", _ONNX)


def file_of(live: LiveModel) -> str | None:
    """The file that a device may run a model from, by its hash; None for a model that none can."""
    return live.model.sha256 if live.model.runtime == _ONNX else None


def _parameters(live: LiveModel) -> LinearForm | None:
    return live.runtime.form if isinstance(live.runtime, LinearRuntime) else None


def _reward(document: Endpoint) -> BundleReward | None:
    experiment = document.experiment
    if experiment is not None:
        reward = experiment.reward
    else:
        number = None if document.baseline is None else document.baseline.id
        rewards = [one for one in document.rewards if one.experiment_id == number]
        if not rewards:
            return None
        reward = rewards[0]
    return BundleReward(
        reward.metric, reward.kind, reward.minimum, reward.maximum, reward.window_seconds, reward.declared
    )


def _instant(at: float) -> str:
    return told(datetime.fromtimestamp(at, tz=UTC))
