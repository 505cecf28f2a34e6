"""Every Redis key of Noregret, and how long it lives. Keys of one endpoint share a hash tag; no
command spans two tags, so that all of it works in a cluster as it is.

key                        type    holds                                                     lives
{index}:seq                int     number of publications so far                             for ever
{index}:epoch              str     random, made with the index: another one means it was lost  for ever
{index}:changed            zset    document name -> seq of its last publication              for ever
{index}:versions           hash   document name -> version of its last publication          for ever
{index}:learner            str     Unix time at which the learner last looked at everything   for ever
{index}:lagging            str     endpoints that it is behind with, and why (serving.learner_sign)  for ever
{index}:failing            hash    `round:NAME`, `publish:NAME` -> since when that fails, and why  until it succeeds
{index}:inspector          str     Unix time of a sign that uploads are inspected by a worker  120 s
{NAME}:snapshot            hash    version, body (msgpack of serving.snapshot)               for ever
{NAME}:decisions           stream  decisions not yet in PostgreSQL, field `d` (msgpack)      until ingested
{NAME}:shadow              stream  copies of requests for shadow challengers, at most 5,000      until predicted on
{NAME}:spooled             str     µs since 1970 of the oldest decision on a web process's disk  15 s after it was last told
{NAME}:sticky:E            str     how far experiment E's arms of units are restored (serving.sticky)  30 days
{NAME}:sticky:E:UNIT       str     a unit's arm in experiment E (serving.sticky)             30 days after its last lookup
{NAME}:told:E:WHAT         str     a figure of experiment E that a worker made (learning.shown.asked)  an hour
{NAME}:asked:E:WHAT        str     a worker was asked for it                                 20 s, or until it is made
{STREAM}:answered:GROUP:ID str     what is answered to a request of a stream (serving.streams.kept)  7 days, or as long as it is remembered
{NAME}:answered:@predictions:ID str  what is answered to a request of predictions (serving.api.once)  as long as its caller says
{login}:KIND:NAME          hash    failed logins by address, device or user, pause until     an hour after the last try
{edge}:events:KEY:MINUTE    int     events of devices that a key (its digest) sent in a minute    120 s
{access}:used              hash    digest of a key -> Unix second of its last use            for ever
celery:*                           Celery's queues                                           Celery's own

NAME is an endpoint's name, or `@access` for the API keys: no endpoint's name can start with `@`.
"""

import re
from dataclasses import dataclass

ACCESS = "@access"
BODY_FIELD = b"d"
_TAG = re.compile(r"\{[^}]+\}")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys under one prefix (settings.REDIS_PREFIX)."""

    prefix: str

    @property
    def sequence(self) -> str:
        return f"{self.prefix}{{index}}:seq"

    @property
    def epoch(self) -> str:
        return f"{self.prefix}{{index}}:epoch"

    @property
    def changed(self) -> str:
        return f"{self.prefix}{{index}}:changed"

    @property
    def versions(self) -> str:
        return f"{self.prefix}{{index}}:versions"

    @property
    def learner(self) -> str:
        return f"{self.prefix}{{index}}:learner"

    @property
    def inspector(self) -> str:
        return f"{self.prefix}{{index}}:inspector"

    @property
    def lagging(self) -> str:
        return f"{self.prefix}{{index}}:lagging"

    @property
    def failing(self) -> str:
        return f"{self.prefix}{{index}}:failing"

    def told(self, endpoint: str, experiment: int, what: str) -> str:
        return f"{self.prefix}{{{endpoint}}}:told:{experiment}:{what}"

    def asked(self, endpoint: str, experiment: int, what: str) -> str:
        return f"{self.prefix}{{{endpoint}}}:asked:{experiment}:{what}"

    @property
    def key_uses(self) -> str:
        return f"{self.prefix}{{access}}:used"

    def login(self, kind: str, name: str) -> str:
        return f"{self.prefix}{{login}}:{kind}:{name}"

    def edge_events(self, key: str, minute: int) -> str:
        return f"{self.prefix}{{edge}}:events:{key}:{minute}"

    def snapshot(self, name: str) -> str:
        return f"{self.prefix}{{{name}}}:snapshot"

    def spooled(self, endpoint: str) -> str:
        return f"{self.prefix}{{{endpoint}}}:spooled"

    def restored(self, endpoint: str, experiment_id: int) -> str:
        return f"{self.prefix}{{{endpoint}}}:sticky:{experiment_id}"

    def sticky(self, endpoint: str, experiment_id: int, unit: str) -> str:
        return f"{self.prefix}{{{endpoint}}}:sticky:{experiment_id}:{unit}"

    def answered(self, stream: str, group: str, digest: str, *, in_cluster: bool = False) -> str:
        """`in_cluster`: in the slot of a stream whose name has a hash tag of its own, which the name
        that one server has always had for it is not."""
        own = _TAG.search(stream) if in_cluster else None
        tagged = f"{{{stream}}}" if own is None else f"{own[0]}:{stream}"
        return f"{self.prefix}{tagged}:answered:{group}:{digest}"

    def shadows(self, endpoint: str) -> str:
        return f"{self.prefix}{{{endpoint}}}:shadow"

    def decisions(self, endpoint: str) -> str:
        return f"{self.prefix}{{{endpoint}}}:decisions"
