"""The calls of devices: a bundle, a model file, events. As serving.api.face, of no framework and no
protocol; refusals are Problems."""

import time
from collections.abc import Iterator
from typing import BinaryIO

from serving import problems
from serving.artifacts import ArtifactMissing
from serving.edge.bundle import Issued, file_of
from serving.edge.documents import EVENTS, EdgeEventResults, EdgeEventsBody
from serving.edge.receipt import InvalidReceipt
from serving.edge.signing import PublicKeys
from serving.edge.taking import take_events
from serving.ledger.rewards import LedgerUnavailable
from serving.live import LiveEndpoint
from serving.process import Process
from serving.snapshot import Key

from .keys import authorize, digest

SCOPE = "edge"


def admit(process: Process, key_text: str | None, endpoint: str) -> LiveEndpoint:
    """The endpoint, for a device's key. Raises Problem 401, 403 or 404."""
    return _endpoint(process, authorize(process, key_text, SCOPE), endpoint)


def admit_any(process: Process, key_text: str | None) -> Key:
    """A device's key. Raises Problem 401 or 403."""
    return authorize(process, key_text, SCOPE)


def bundle(process: Process, live: LiveEndpoint) -> Issued:
    """Its bundle. Raises Problem 409 or 503."""
    return process.edge.issuer.issue(live, time.time())


def public_keys(process: Process) -> PublicKeys:
    """What bundles may be signed with."""
    return process.edge.signer.public()


def artifact(process: Process, key_text: str | None, sha256: str) -> BinaryIO:
    """A model file that a bundle names which this key may fetch. Raises Problem 401, 403, 404 or
    503."""
    key = authorize(process, key_text, SCOPE)
    if not any(sha256 == file_of(model) for live in _endpoints(process, key) for model in live.models()):
        raise problems.not_found("no bundle of this key's endpoints names this file now: fetch the bundle anew")
    try:
        return process.edge.artifacts().opened(sha256)
    except ArtifactMissing as error:
        raise problems.unavailable(f"the file can't be had: {error}", retry_after=5) from error


def events_of(body: bytes) -> EdgeEventsBody:
    """Raises Problem 400."""
    return EVENTS.decode(body)


def events(process: Process, key_text: str | None, body: EdgeEventsBody) -> EdgeEventResults:
    """Decisions and rewards that were made on a device. Raises Problem 400, 401, 403, 404, 429 or
    503."""
    key = authorize(process, key_text, SCOPE)
    assert key_text is not None
    try:
        receipt = process.edge.receipts.read(body.receipt)
    except InvalidReceipt as error:
        message = f"the receipt of a bundle was expected: {error}"
        raise problems.invalid_fields([{"field": "receipt", "message": message}]) from error
    live = _endpoint(process, key, receipt.endpoint)
    if live.document.id != receipt.endpoint_id:
        raise problems.not_found(f"the bundle is of another endpoint {receipt.endpoint}, which is no more")
    now = time.time()
    seconds = process.edge.allowance.take(digest(key_text)[:32], len(body.events), now)
    if seconds is not None:
        raise problems.too_many("this key has sent as many events as are taken of it in a minute", retry_after=seconds)
    try:
        return EdgeEventResults(take_events(process, receipt, body.events, now))
    except LedgerUnavailable as error:
        raise problems.unavailable("the ledger did not take the events: send them again", retry_after=2) from error


def _endpoint(process: Process, key: Key, endpoint: str) -> LiveEndpoint:
    live = process.store.endpoint(endpoint)
    if live is None or (key.endpoints is not None and endpoint not in key.endpoints):
        raise problems.not_found(f"there is no endpoint {endpoint}")
    return live


def _endpoints(process: Process, key: Key) -> Iterator[LiveEndpoint]:
    for live in process.store.endpoints():
        if key.endpoints is None or live.document.name in key.endpoints:
            yield live
