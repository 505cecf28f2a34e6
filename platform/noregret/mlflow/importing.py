"""Registers a version of MLflow's registry here: its file, or the address where it is served."""

import re
from collections.abc import Collection
from hashlib import sha256
from typing import Any

import msgspec
from django.core.exceptions import ValidationError
from django.db import transaction

from noregret.names import validate_name
from noregret.registry.errors import DefinitionInvalid, StillInspected
from noregret.registry.frameworks import Definition, frameworks
from noregret.registry.frameworks.http import HttpDefinition
from noregret.registry.jobs import register
from noregret.registry.models import ModelVersion
from noregret.trail import audit
from serving.runtimes.http import RemoteProtocol

from .artefacts import columns_of, described, example_of, fetched
from .client import Mlflow, Version
from .models import ImportedVersion

_URI = re.compile(r"models:/(?P<name>[^/@:]{1,255})(?:@(?P<alias>[^/@]{1,255})|/(?P<version>\d{1,18}))")


def import_version(
    uri: str,
    *,
    name: str | None = None,
    version: str | None = None,
    url: str | None = None,
    protocol: RemoteProtocol = "mlflow",
    actor: str,
    endpoints: Collection[str] | None = None,
) -> tuple[ModelVersion, ImportedVersion, bool]:
    """The version as registered here, where it came from, and whether it is new. `name` and
    `version` are what it is called here; `url` where it is served, for one that is not served here.

    Raises DefinitionInvalid, ImportRefused, MlflowUnavailable, and what `register` raises:
    StillInspected with its source kept.
    """
    mlflow = Mlflow()
    try:
        found = _found(mlflow, uri)
        local = _local_name(name or found.name), version or found.version
        definition = _definition(mlflow, found, local, url, protocol)
        metrics = mlflow.metrics(found.run_id) if found.run_id else {}
    finally:
        mlflow.close()
    source = ImportedVersion(
        name=local[0],
        version=local[1],
        sha256="" if isinstance(definition, HttpDefinition) else sha256(_artifact(definition)).hexdigest(),
        url=url or "",
        mlflow_name=found.name,
        mlflow_version=found.version,
        run_id=found.run_id[:64],
        metrics=metrics,
        created_by=actor,
    )
    try:
        row, is_new = register(definition, actor=actor, endpoints=endpoints)
    except StillInspected:
        _keep(source, actor)
        raise
    return row, _keep(source, actor), is_new


def stands_for(source: ImportedVersion, row: ModelVersion) -> bool:
    """Is this version what was imported, and not another content under the same name?"""
    return row.sha256 == source.sha256 if source.sha256 else row.options.get("url") == source.url


def _found(mlflow: Mlflow, uri: str) -> Version:
    match = _URI.fullmatch(uri)
    if match is None:
        raise DefinitionInvalid("uri", "models:/NAME@ALIAS or models:/NAME/VERSION was expected")
    if match["alias"] is not None:
        return mlflow.by_alias(match["name"], match["alias"])
    return mlflow.by_number(match["name"], match["version"])


def _local_name(name: str) -> str:
    try:
        validate_name(name)
    except ValidationError as error:
        raise DefinitionInvalid("name", f"{name[:80]} is no name here, give another: it {error.messages[0]}") from error
    return name


def _definition(
    mlflow: Mlflow, found: Version, local: tuple[str, str], url: str | None, protocol: RemoteProtocol
) -> Definition:
    folder = mlflow.folder(found)
    document = described(mlflow, folder)
    given: dict[str, Any] = {"name": local[0], "version": local[1]}
    if url is not None:
        given |= {"url": url, "protocol": protocol}
        example, columns = example_of(mlflow, folder, document), columns_of(document)
        # Open Inference Protocol's servers tell their inputs themselves.
        return _made(HttpDefinition, given, example, columns if protocol == "mlflow" else [])
    artefact = fetched(mlflow, folder, document)
    kind = frameworks()[artefact.framework].definition
    return _made(kind, given | {"artifact": artefact.body}, artefact.example, [])


def _made(
    kind: type[Definition], given: dict[str, Any], example: list[list[Any]], columns: list[dict[str, Any]]
) -> Definition:
    if columns:
        given |= {"columns": columns}
    taken = {"sample": example} if example and "sample" in kind.__struct_fields__ else {}
    try:
        return msgspec.convert(given | taken, kind)
    except msgspec.ValidationError:
        return msgspec.convert(given, kind)  # an example that is no rows here


def _artifact(definition: Definition) -> bytes:
    body: bytes = definition.artifact  # type: ignore[attr-defined]  # of each framework that takes a file
    return body


@transaction.atomic
def _keep(source: ImportedVersion, actor: str) -> ImportedVersion:
    rest: dict[str, Any] = {
        field: getattr(source, field)
        for field in ("sha256", "url", "mlflow_name", "mlflow_version", "run_id", "metrics", "created_by")
    }
    row, is_new = ImportedVersion.objects.update_or_create(name=source.name, version=source.version, defaults=rest)
    if is_new:
        audit.record(
            actor=actor,
            action="mlflow.imported",
            model=row.model,
            details={"name": row.mlflow_name, "version": row.mlflow_version, "run_id": row.run_id},
        )
    return row
