"""The snapshot: the immutable, versioned document, one an endpoint, from which serving routes.

It answers everything that a request needs to know: which models, which arms with which
probabilities, which reward. The platform writes it (noregret.rollout.publish), web processes read
it; no table is read on the way of a request. A second kind of document, `Access`, holds the digests
of the API keys.
"""

from abc import ABCMeta
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from .runtimes import Model as Model  # what the rest of serving calls a model of any kind
from .runtimes import model_of

SCHEMA = 1
"""Grows when a reader of the older form would misread; readers refuse a form that they don't know
and keep what they have."""

Strategy = Literal["shadow", "canary", "ab", "bandit"]
Kind = Literal["binary", "continuous", "count"]
Direction = Literal["maximize", "minimize"]


if TYPE_CHECKING:
    AnyModel = Model
else:

    class AnyModel(metaclass=ABCMeta):  # noqa: B024 - nothing is called by this type: decoding asks for it alone
        """A model of any kind that `serving.runtimes` knows, told apart by its tag `runtime`. It is
        no union that is written down here: a decoder keeps the types that it was made with, and a
        framework may be added to a process that runs."""

    AnyModel.register(Model)


class Arm(msgspec.Struct, frozen=True):
    """A model version's seat in an experiment, with what the policy last knew of it."""

    id: int
    name: str
    model: AnyModel
    propensity: float  # after burn-in and floor; 0 for a disabled arm, and where it depends on the request
    enabled: bool = True
    is_control: bool = False
    payload: Any = None
    count: float = 0.0  # rewards learned, as far as the policy remembers them
    mean: float = 0.0
    m2: float = 0.0
    learned: float | None = None  # rewards ever learned, which burn-in counts; None: as `count`
    open: float = 0.0  # decisions not answered yet, nor matured, for policies that count their pulls


class Policy(msgspec.Struct, frozen=True):
    """How a bandit chooses."""

    name: str
    params: dict[str, Any] = {}
    floor: float = 0.01
    burn_in: int = 100


class Reward(msgspec.Struct, frozen=True):
    """What feedback on a decision of this experiment must be; kept as long as its windows are
    open."""

    experiment_id: int
    experiment: str
    metric: str
    kind: Kind
    direction: Direction
    window_seconds: float
    minimum: float | None = None
    maximum: float | None = None
    declared: bool = (
        True  # False: of a single deployment whose endpoint names no reward; true and false count as 1 and 0
    )
    guardrails: list[str] = []  # metrics that its guardrails watch: taken of each decision, as the reward is


class Belief(msgspec.Struct, frozen=True):
    """What a contextual policy believes of each arm's coefficients, by arm position."""

    mean: list[list[float]]
    covariance: list[list[list[float]]]


class Experiment(msgspec.Struct, frozen=True):
    """The running experiment of an endpoint."""

    id: int
    name: str
    strategy: Strategy
    arms: list[Arm]
    reward: Reward
    policy: Policy | None = None
    context: list[dict[str, Any]] = []  # the declared fields, as bandits.context takes them
    belief: Belief | None = None  # of a contextual policy
    holdout: float = 0.0  # share of traffic that gets the control, whatever the policy says
    apprentice: bool = False  # the policy's choice is recorded, the control serves
    sticky: bool = False  # a unit keeps its arm
    shadow_sample: float = 0.0  # share of requests that challengers get a copy of
    edge_evidence: bool = True  # what devices decide counts like what is decided here
    edge_exclusions: bool = False  # also where their request excluded arms


class Baseline(msgspec.Struct, frozen=True):
    """How decisions are recorded while no experiment runs: under which number, for which share of
    requests."""

    id: int  # from the numbers of experiments
    model_id: int  # the champion's, in the place of an arm's
    record: float = 1.0


class Cache(msgspec.Struct, frozen=True):
    """What web processes keep of an endpoint's answers (serving.prediction_cache)."""

    entries: int  # the most answers a process
    seconds: float | None = None  # how long one is good for; None: for ever, of models that can't change


class Batch(msgspec.Struct, frozen=True):
    """How requests at the same time are computed together (serving.batching)."""

    rows: int  # the most of a call
    wait_ms: float = 0.0


class Endpoint(msgspec.Struct, frozen=True):
    """The snapshot of one endpoint."""

    id: int
    name: str
    version: int  # the policy version
    published_at: float  # Unix time, seconds
    champion: AnyModel
    deadline_ms: int
    experiment: Experiment | None = None
    # Rewards of this endpoint's experiments and baselines, running or ended, whose windows can
    # still be open.
    rewards: list[Reward] = []
    baseline: Baseline | None = None
    schema: int = SCHEMA
    cache: Cache | None = None  # None: every request is computed
    batch: Batch | None = None  # None: each by itself


class Key(msgspec.Struct, frozen=True):
    """An API key as the hot path needs it."""

    name: str
    scopes: frozenset[str]
    endpoints: frozenset[str] | None = None  # None: every endpoint
    expires_at: float | None = None  # Unix time, seconds


class Access(msgspec.Struct, frozen=True):
    """Every API key in force, by the SHA-256 of the key in hexadecimal."""

    version: int
    keys: dict[str, Key]
    schema: int = SCHEMA


_encoder = msgspec.msgpack.Encoder()


def _decode_model(kind: type, document: Any) -> Any:
    if kind is not AnyModel:
        raise NotImplementedError(kind)
    return model_of(document)


_endpoint_decoder = msgspec.msgpack.Decoder(Endpoint, dec_hook=_decode_model)
_access_decoder = msgspec.msgpack.Decoder(Access)


class SnapshotUnreadable(ValueError):
    """A document is damaged, or of a form that this version of the program does not know."""


def encode(document: Endpoint | Access) -> bytes:
    return _encoder.encode(document)


def decode_endpoint(body: bytes) -> Endpoint:
    """Raises SnapshotUnreadable."""
    try:
        document = _endpoint_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SnapshotUnreadable(str(error)) from error
    if document.schema != SCHEMA:
        raise SnapshotUnreadable(f"schema {document.schema} where {SCHEMA} was expected")
    return document


def decode_access(body: bytes) -> Access:
    """Raises SnapshotUnreadable."""
    try:
        document = _access_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SnapshotUnreadable(str(error)) from error
    if document.schema != SCHEMA:
        raise SnapshotUnreadable(f"schema {document.schema} where {SCHEMA} was expected")
    return document


def as_sent(value: Any) -> Any:
    """A JSON value as MessagePack takes it: PostgreSQL gives 1e30 back as a whole number, and
    MessagePack's have 64 bits."""
    if isinstance(value, dict):
        return {key: as_sent(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_sent(inner) for inner in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        try:
            return float(value)
        except OverflowError:  # four hundred digits: no number that a client's JSON would hold
            return str(value)
    return value
