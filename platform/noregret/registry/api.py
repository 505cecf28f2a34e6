"""The registry over HTTP."""

from contextlib import nullcontext
from typing import Any, Literal, cast

import msgspec
from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from rest_framework.request import Request
from rest_framework.response import Response

from noregret.rest.calls import call
from noregret.rest.pagination import PAGING, Page, page
from noregret.rest.parsers import ArtifactParser, StrictJSONParser, convert
from noregret.rest.refusals import refusal
from noregret.rest.views import ManageView
from serving import problems, strict_json
from serving.problems import FieldError, ProblemDocument
from serving.remote.tensors import Tensor
from serving.runtimes import Column
from serving.times import Time

from . import uploads
from .bodies import forms, json_definitions
from .errors import StillInspected
from .frameworks import Definition, Framework, frameworks
from .frameworks.fields import COMMON, Field, own_fields
from .jobs import refusal_of, register, seen_job
from .models import ModelVersion, RegistrationJob
from .visibility import seen_models


class Signature(msgspec.Struct, frozen=True):
    """What a model takes and gives."""

    features: int | None
    feature_names: list[str] | None
    outputs: list[str]
    classes: list[Any] | None
    task: Literal["classifier", "regressor", "other"]
    example_rows: list[list[Any]] | None = None
    columns: list[Column] | None = None
    """What each value of a row is; null where rows are numbers without names, none of them null."""
    inputs: list[Tensor] | None = None  # of a remote model, as its server described them
    by_row: bool | None = None
    """Does each row's answer follow from that row and the file alone? Null where nobody asked."""
    sampled: bool | None = None
    """Are the example rows of a sample that came with the model, and not made up? Null where nobody
    noted it."""


class Model(msgspec.Struct, frozen=True):
    """A model version."""

    id: int
    name: str
    version: str
    model: str
    framework: str  # one of those that registration takes
    sha256: str | None
    signature: Signature
    compiled: bool
    compile_note: str | None
    call_seconds: float | None  # measured at registration, with what each row adds
    row_seconds: float | None
    callable: str | None
    payload: Any
    options: dict[str, Any]  # what else the framework was told: a remote model's address
    created_at: Time


class RunningJob(msgspec.Struct, frozen=True):
    """A registration whose artefact is still inspected; `Location` says where to ask."""

    job: str
    status: Literal["running"] = "running"


class Job(msgspec.Struct, frozen=True):
    """What became of a registration: the answer that its caller would have had, in `model` or
    `problem`."""

    job: str
    status: Literal["running", "done", "failed"]
    model: Model | None
    problem: ProblemDocument | None
    created_at: Time
    ended_at: Time | None


def shown(version: ModelVersion) -> Model:
    return Model(
        id=version.pk,
        name=version.name,
        version=version.version,
        model=version.model,
        framework=version.framework,
        sha256=version.sha256 or None,
        signature=_shown_signature(version.signature),
        compiled=version.compiled,
        compile_note=version.compile_note or None,
        call_seconds=version.call_seconds,
        row_seconds=version.row_seconds,
        callable=version.callable or None,
        payload=version.payload,
        options=version.options,
        created_at=version.created_at,
    )


def _shown_signature(signature: dict[str, Any]) -> Signature:
    """With the columns of a model that has names and takes numbers alone, which are not kept."""
    names = signature["feature_names"]
    if signature.get("columns") is None and names is not None:
        signature = signature | {"columns": [Column(name) for name in names]}
    return msgspec.convert(signature, Signature, from_attributes=True)


class ModelsView(ManageView):
    """GET and POST /api/v1/models"""

    parser_classes = (StrictJSONParser, ArtifactParser)

    @call("List model versions", parameters=PAGING, name="models_list")
    def get(self, request: Request) -> Page[Model]:
        return page(request, seen_models(self.caller.endpoints), shown)

    @call(
        "Register a model version",
        bodies={"application/json": json_definitions, "multipart/form-data": forms},
        answers={201: Model, 200: Model, 202: RunningJob},
        problems=(409, 422),
    )
    def post(self, request: Request) -> Response:
        multipart = (request.content_type or "").startswith("multipart/form-data")
        with uploads.slot() if multipart else nullcontext():
            definition = _from_form(request) if multipart else _from_json(request.data)
            try:
                version, is_new = register(definition, actor=self.caller.name, endpoints=self.caller.endpoints)
            except StillInspected as error:
                headers = {"Location": f"/api/v1/jobs/{error.job}", "Retry-After": "5"}
                return Response(RunningJob(str(error.job)), status=202, headers=headers)
        return Response(shown(version), status=201 if is_new else 200)


class JobView(ManageView):
    """GET /api/v1/jobs/{job}"""

    @call("What became of a registration", problems=(404,))
    def get(self, request: Request, job: str) -> Job:
        row = seen_job(job, self.caller.endpoints)
        if row is None:
            raise problems.not_found(f"there is no job {job[:80]}")
        problem = None
        if row.status == RegistrationJob.Status.FAILED:
            problem = (refusal(refusal_of(row)) or problems.internal()).document()
        return Job(
            job=str(row.pk),
            status=cast("Literal['running', 'done', 'failed']", row.status),
            model=None if row.model is None else shown(row.model),
            problem=problem,
            created_at=row.created_at,
            ended_at=row.ended_at,
        )


class ModelView(ManageView):
    """GET /api/v1/models/{name}/{version}"""

    @call("A model version", problems=(404,))
    def get(self, request: Request, name: str, version: str) -> Model:
        row = seen_models(self.caller.endpoints).filter(name=name, version=version).first()
        if row is None:
            raise problems.not_found(f"there is no model version {name[:80]}@{version[:80]}")
        return shown(row)


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
    # Callers who fill in all that one document of before had send the fields of other frameworks
    # empty.
    given = {name: value for name, value in data.items() if name in own or name not in _LEFT_EMPTY or value}
    return convert(given, framework.definition)


def _from_form(request: Request) -> Definition:
    """A definition whose fields came as parts of a form: a file, a text, or JSON in a text or a
    file."""
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
