"""MLflow's registry over HTTP."""

from typing import Annotated

import msgspec
from django.db.models import Exists, OuterRef, QuerySet
from msgspec import Meta
from rest_framework.request import Request
from rest_framework.response import Response

from noregret.names import Name
from noregret.registry import uploads
from noregret.registry.api import RunningJob
from noregret.registry.errors import StillInspected
from noregret.registry.visibility import seen_models
from noregret.rest.caller import Caller
from noregret.rest.calls import call
from noregret.rest.pagination import PAGING, Page, page
from noregret.rest.views import ManageView
from serving.runtimes.http import RemoteProtocol
from serving.times import Time

from . import models
from .importing import import_version


class ImportRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A version of MLflow's registry, and what it is called here: its own name and number unless
    given. With `url` it is served there, and called by `protocol`."""

    uri: Annotated[str, Meta(max_length=600, description="`models:/NAME@ALIAS` or `models:/NAME/VERSION`.")]
    name: Name | None = None
    version: Name | None = None
    url: Annotated[str, Meta(max_length=2000)] | None = None
    protocol: RemoteProtocol = "mlflow"


class AliasMove(msgspec.Struct, frozen=True):
    """What became of an alias that is to follow the champion."""

    alias: str
    endpoint: str
    state: str
    attempts: int
    problem: str | None
    created_at: Time


class Imported(msgspec.Struct, frozen=True):
    """A model version that came from MLflow. `metrics` are its run's, as they were then."""

    id: int
    model: str
    name: str
    version: str
    run_id: str
    metrics: dict[str, float]
    url: str | None
    created_at: Time
    alias_moves: list[AliasMove]


def shown(row: models.ImportedVersion) -> Imported:
    return Imported(
        id=row.pk,
        model=row.model,
        name=row.mlflow_name,
        version=row.mlflow_version,
        run_id=row.run_id,
        metrics=row.metrics,
        url=row.url or None,
        created_at=row.created_at,
        alias_moves=[
            AliasMove(move.alias, move.endpoint, move.state, move.attempts, move.problem or None, move.created_at)
            for move in row.moves.all()[:10]
        ],
    )


def seen(caller: Caller) -> "QuerySet[models.ImportedVersion]":
    """Of the versions that the caller may see."""
    versions = seen_models(caller.endpoints).filter(name=OuterRef("name"), version=OuterRef("version"))
    return models.ImportedVersion.objects.filter(Exists(versions))


class ImportsView(ManageView):
    """GET and POST /api/v1/mlflow/imports"""

    @call("List model versions that came from MLflow", parameters=PAGING, name="mlflow_imports_list")
    def get(self, request: Request) -> Page[Imported]:
        return page(request, seen(self.caller), shown)

    @call(
        "Register a version of MLflow's registry",
        answers={201: Imported, 200: Imported, 202: RunningJob},
        problems=(409, 422, 503),
    )
    def post(self, request: Request, body: ImportRequest) -> Response:
        with uploads.slot():
            try:
                _, source, is_new = import_version(
                    body.uri,
                    name=body.name,
                    version=body.version,
                    url=body.url,
                    protocol=body.protocol,
                    actor=self.caller.name,
                    endpoints=self.caller.endpoints,
                )
            except StillInspected as error:
                headers = {"Location": f"/api/v1/jobs/{error.job}", "Retry-After": "5"}
                return Response(RunningJob(str(error.job)), status=202, headers=headers)
        return Response(shown(source), status=201 if is_new else 200)
