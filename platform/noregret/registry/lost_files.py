"""Is the file that a version is loaded from known to be lost? Asked before requests come to depend
on it.

Only a certain no counts: where the store does not answer in time, or can't be made, nothing is
known, and web processes may hold copies. Nobody is to be kept from going back by a store that is
away.
"""

from collections.abc import Iterable

import structlog
from django.conf import settings

from serving.artifacts import ArtifactStore
from serving.deadline import BoundedCaller

from .frameworks import model_document
from .models import ModelVersion
from .storage_deadlines import artifact_storage

log = structlog.get_logger(__name__)

ASK_SECONDS = 2.0
_store = BoundedCaller("artefact-store")


def lost_among(versions: Iterable[ModelVersion]) -> tuple[ModelVersion, str] | None:
    """The first whose file is neither here nor in the store, and the file's SHA-256. Takes
    ASK_SECONDS at most."""
    here = ArtifactStore(settings.ARTIFACT_DIR)
    files = {version: sha256 for version in versions if (sha256 := model_document(version).sha256) is not None}
    away = {version: here.path(sha256) for version, sha256 in files.items() if not here.path(sha256).exists()}
    if not away:
        return None
    # A store has the folders that there are here.
    names = {version: "/".join(path.parts[-2:]) for version, path in away.items()}
    try:
        version = _store.call(lambda: _first_lost(names), ASK_SECONDS)
    except Exception as error:  # whatever a storage's library raises
        log.warning("not known whether files are lost", error=repr(error))
        return None
    return None if version is None else (version, files[version])


def _first_lost(names: dict[ModelVersion, str]) -> ModelVersion | None:
    storage = artifact_storage()
    return next((version for version, name in names.items() if storage is None or not storage.exists(name)), None)
