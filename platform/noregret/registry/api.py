"""The registry over HTTP."""

from contextlib import nullcontext
from typing import Annotated, Any, cast

import msgspec
from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from rest_framework.request import Request
from rest_framework.response import Response

from noregret.rest.pagination import page
from noregret.rest.parsers import ArtifactParser, StrictJSONParser, convert
from noregret.rest.views import ManageView
from serving import problems, strict_json
from serving.problems import FieldError
from serving.runtimes.rows import MAX_ERRORS

from . import uploads
from .models import ModelVersion
from .register import Definition, register_model
from .visibility import may_register, seen_models

Text = Annotated[str, msgspec.Meta(max_length=255)]


class ModelRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A model version that needs no artefact."""

    name: Text
    version: Text
    framework: Text
    callable: Text = ""
    payload: Any = None


def render(version: ModelVersion) -> dict[str, Any]:
    return {
        "id": version.pk,
        "name": version.name,
        "version": version.version,
        "model": version.model,
        "framework": version.framework,
        "sha256": version.sha256 or None,
        "signature": version.signature,
        "compiled": version.compiled,
        "compile_note": version.compile_note or None,
        "call_seconds": version.call_seconds,
        "row_seconds": version.row_seconds,
        "callable": version.callable or None,
        "payload": version.payload,
        "created_at": version.created_at.isoformat().replace("+00:00", "Z"),
    }


class ModelsView(ManageView):
    """GET and POST /api/v1/models"""

    parser_classes = (StrictJSONParser, ArtifactParser)

    def get(self, request: Request) -> Response:
        return Response(page(request, seen_models(self.caller.endpoints), render))

    def post(self, request: Request) -> Response:
        multipart = (request.content_type or "").startswith("multipart/form-data")
        with uploads.slot() if multipart else nullcontext():
            definition = _from_form(request) if multipart else _from_json(request.data)
            limit = self.caller.endpoints
            known = seen_models(limit).filter(name=definition.name, version=definition.version)
            version, created = register_model(
                definition,
                actor=self.caller.name,
                endpoints=limit,
                may_take=lambda name: may_register(limit, name) or known.exists(),
            )
        return Response(render(version), status=201 if created else 200)


class ModelView(ManageView):
    """GET /api/v1/models/{name}/{version}"""

    def get(self, request: Request, name: str, version: str) -> Response:
        found = seen_models(self.caller.endpoints).filter(name=name, version=version).first()
        if found is None:
            raise problems.not_found(f"there is no model version {name[:80]}@{version[:80]}")
        return Response(render(found))


def _from_json(data: Any) -> Definition:
    form = convert(data, ModelRequest)
    if form.framework == "sklearn":
        message = "a scikit-learn model is sent as multipart/form-data with its artefact"
        raise problems.invalid_fields([{"field": "artifact", "message": message}])
    errors: list[FieldError] = []
    if form.framework == "static" and form.callable:
        errors.append({"field": "callable", "message": "a static model has none"})
    if form.framework == "python" and form.payload is not None:
        errors.append({"field": "payload", "message": "a python model has none"})
    if errors:
        raise problems.invalid_fields(errors)
    return Definition(form.name, form.version, form.framework, callable=form.callable, payload=form.payload)


_Sample = Annotated[list[list[float]], msgspec.Meta(min_length=1)]
_TEXTS = ("name", "version", "framework")


def _from_form(request: Request) -> Definition:
    form = cast("QueryDict", request.data)
    errors: list[FieldError] = []
    for field, values in form.lists():
        if field not in {*_TEXTS, "artifact", "sample"}:
            errors.append({"field": field, "message": "unknown field"})
        elif len(values) > 1:
            errors.append({"field": field, "message": "given more than once"})
    for field in _TEXTS:
        value = form.get(field)
        if not isinstance(value, str):
            errors.append({"field": field, "message": "required"})
        elif "\x00" in value:
            errors.append({"field": field, "message": "holds NUL"})
    artifact = form.get("artifact")
    if not isinstance(artifact, UploadedFile):
        errors.append({"field": "artifact", "message": "a file was expected"})
    if errors:
        raise problems.invalid_fields(errors)
    texts = {field: str(form[field]) for field in _TEXTS}
    if texts["framework"] in {"static", "python"}:
        message = f"a {texts['framework']} model has no artefact: send it as JSON"
        raise problems.invalid_fields([{"field": "artifact", "message": message}])
    assert isinstance(artifact, UploadedFile)
    return Definition(**texts, artifact=artifact.read(), sample=_sample(form.get("sample")))


def _sample(given: Any) -> list[list[float]] | None:
    """Rows to check the compiled model on, as JSON in a field or a file."""
    if given is None:
        return None
    body = given.read() if isinstance(given, UploadedFile) else str(given).encode("utf-8", "surrogatepass")
    try:
        rows: list[list[float]] = msgspec.convert(strict_json.loads(body), _Sample)
    except (strict_json.InvalidJSON, msgspec.ValidationError) as error:
        message = f"rows of numbers as JSON were expected: {error}"
        raise problems.invalid_fields([{"field": "sample", "message": message}]) from error
    errors: list[FieldError] = [
        {"field": f"sample[{i}]", "message": f"{len(row)} values where the first row has {len(rows[0])}"}
        for i, row in enumerate(rows)
        if len(row) != len(rows[0])
    ]
    if errors:
        raise problems.invalid_fields(errors[:MAX_ERRORS])
    return rows
