"""The registry over HTTP."""

from contextlib import nullcontext
from datetime import datetime
from typing import Any, cast

from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from rest_framework.request import Request
from rest_framework.response import Response

from noregret.rest.pagination import page
from noregret.rest.parsers import ArtifactParser, StrictJSONParser, convert
from noregret.rest.refusals import refusal
from noregret.rest.views import ManageView
from serving import problems, strict_json
from serving.problems import FieldError

from . import uploads
from .errors import StillInspected
from .frameworks import Definition, Framework, frameworks
from .frameworks.fields import COMMON, Field, own_fields
from .jobs import refusal_of, register, seen_job
from .models import ModelVersion, RegistrationJob
from .visibility import seen_models


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
        "created_at": _iso(version.created_at),
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
            try:
                version, is_new = register(definition, actor=self.caller.name, endpoints=self.caller.endpoints)
            except StillInspected as error:
                headers = {"Location": f"/api/v1/jobs/{error.job}", "Retry-After": "5"}
                return Response({"job": str(error.job), "status": "running"}, status=202, headers=headers)
        return Response(render(version), status=201 if is_new else 200)


class JobView(ManageView):
    """GET /api/v1/jobs/{job}"""

    def get(self, request: Request, job: str) -> Response:
        found = seen_job(job, self.caller.endpoints)
        if found is None:
            raise problems.not_found(f"there is no job {job[:80]}")
        problem = None
        if found.status == RegistrationJob.Status.FAILED:
            error = refusal_of(found)
            problem = (refusal(error) or problems.internal()).document()
        return Response(
            {
                "job": str(found.pk),
                "status": found.status,
                "model": None if found.model is None else render(found.model),
                "problem": problem,
                "created_at": _iso(found.created_at),
                "ended_at": None if found.ended_at is None else _iso(found.ended_at),
            }
        )


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


class ModelView(ManageView):
    """GET /api/v1/models/{name}/{version}"""

    def get(self, request: Request, name: str, version: str) -> Response:
        found = seen_models(self.caller.endpoints).filter(name=name, version=version).first()
        if found is None:
            raise problems.not_found(f"there is no model version {name[:80]}@{version[:80]}")
        return Response(render(found))


def _framework(name: Any) -> Framework[Any]:
    """Raises Problem 400."""
    known = frameworks()
    if not isinstance(name, str) or name not in known:
        message = f"one of {', '.join(sorted(known))} was expected" if isinstance(name, str) else "a text was expected"
        raise problems.invalid_fields([{"field": "framework", "message": message}])
    return known[name]


_LEFT_EMPTY = frozenset({"callable", "payload"})


def _from_json(data: Any) -> Definition:
    if not isinstance(data, dict):
        raise problems.invalid_fields([{"field": "", "message": "an object was expected"}])
    if "framework" not in data:
        raise problems.invalid_fields([{"field": "framework", "message": "required"}])
    framework = _framework(data["framework"])
    if framework.takes_artifact:
        message = f"a {framework.label} model is sent as multipart/form-data with its artefact"
        raise problems.invalid_fields([{"field": "artifact", "message": message}])
    own = framework.definition.__struct_fields__
    # Callers who fill in all that one document of before had send the fields of other frameworks empty.
    given = {name: value for name, value in data.items() if name in own or name not in _LEFT_EMPTY or value}
    return convert(given, framework.definition)


def _from_form(request: Request) -> Definition:
    """A definition whose fields came as parts of a form: a file, a text, or JSON in a text or a file."""
    form = cast("QueryDict", request.data)
    named = form.get("framework")
    framework = _framework(named) if isinstance(named, str) else None
    if framework is not None and not framework.takes_artifact:
        message = f"a {framework.name} model has no artefact: send it as JSON"
        raise problems.invalid_fields([{"field": "artifact", "message": message}])
    own = {} if framework is None else own_fields(framework.definition)
    errors: list[FieldError] = []
    for name, values in form.lists():
        if name not in {*COMMON, *own} and framework is not None:
            errors.append({"field": name, "message": "unknown field"})
        elif len(values) > 1:
            errors.append({"field": name, "message": "given more than once"})
    wanted = [Field(name, "text", required=True, description="") for name in COMMON] + list(own.values())
    given: dict[str, Any] = {}
    for field in wanted:
        if field.name not in form and not field.required:
            continue
        try:
            given[field.name] = _read(field, form.get(field.name))
        except ValueError as error:
            errors.append({"field": field.name, "message": str(error)})
    if errors or framework is None:
        raise problems.invalid_fields(errors)
    return convert(given, framework.definition)


def _read(field: Field, part: Any) -> Any:
    """A field's value from its part. Raises ValueError with what was expected."""
    is_file = isinstance(part, UploadedFile)
    if field.kind == "file":
        if not is_file:
            raise ValueError("a file was expected")
        return part.read()
    if field.kind == "json" and part is not None:
        body = part.read() if is_file else str(part).encode("utf-8", "surrogatepass")
        try:
            return strict_json.loads(body)
        except strict_json.InvalidJSON as error:
            raise ValueError(f"JSON was expected: {error}") from error
    if not isinstance(part, str):
        raise ValueError("required")
    if "\x00" in part:
        raise ValueError("holds NUL")
    return part
