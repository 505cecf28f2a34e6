"""From Redis to where functions read: first models, then documents, then the index that names
them."""

from typing import Any

import msgspec
import redis

from noregret.registry.artifact_storage import StorageSource
from serving import snapshot
from serving.artifacts import ArtifactStore
from serving.live import models_of
from serving.redis_keys import ACCESS, Keys
from serving.stored_snapshots import INDEX, Index

from .snapshot_storage import StorageSnapshots


def put(
    client: redis.Redis,
    keys: Keys,
    target: StorageSnapshots,
    models: StorageSource | None,
    artifacts: ArtifactStore,
) -> int:
    """Write what is newer than what is there; how many documents. With `models` the files that they
    name too. Raises redis.RedisError, SourceFailed, ArtifactMissing and OSError."""
    before = _index(target.read(INDEX))
    names: Any = client.hkeys(keys.versions)
    versions: dict[str, int] = {}
    written = 0
    for name in sorted({*(raw.decode() for raw in names), ACCESS}):
        read: Any = client.hmget(keys.snapshot(name), "version", "body")
        version, document = read
        if document is None:
            continue
        versions[name] = int(version)
        if before.versions.get(name) == int(version):
            continue
        if models is not None and name != ACCESS:
            _put_models(document, models, artifacts)
        target.write(name, document)
        written += 1
    told: Any = client.mget(keys.learner, keys.lagging)
    sign, lagging = told
    target.write(INDEX, msgspec.json.encode(Index(versions, sign, lagging)))
    return written


def _index(body: bytes | None) -> Index:
    """Of what is there; of nothing where there is none, or none that can be read."""
    try:
        return Index({}) if body is None else msgspec.json.decode(body, type=Index)
    except msgspec.MsgspecError:
        return Index({})


def _put_models(document: bytes, models: StorageSource, artifacts: ArtifactStore) -> None:
    for model in models_of(snapshot.decode_endpoint(document)):
        if model.sha256 is not None:
            models.store(model.sha256, artifacts.read(model.sha256))
