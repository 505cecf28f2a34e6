"""The OpenAPI 3.1 document: the control plane by drf-spectacular, the hot path beside it, all from the types that decode and answer."""

from typing import Any

import msgspec
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.views import APIView

from noregret.experiments import document as documents
from noregret.learning.api import decisions, results
from noregret.notify import api as notify
from noregret.registry import api as registry
from noregret.rollout.api import endpoints, experiments
from noregret.trail import api as trail
from serving.api import documents as serving_documents

from . import answers

_PROBLEM = "application/problem+json"
_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
_STATUSES = {
    400: "The request has something that can't be used",
    401: "No valid API key",
    403: "The key lacks the scope",
    404: "Not there, or another's",
    405: "The method is not allowed here",
    409: "The present state does not allow it",
    413: "The body is too large",
    415: "The body is of another type",
    422: "The artefact is refused",
    503: "A server behind the service can't be reached",
}
_ALWAYS = (400, 401, 403, 405, 503)

_BODIES: tuple[type, ...] = (
    registry.ModelRequest,
    endpoints.EndpointRequest,
    endpoints.EndpointChange,
    endpoints.ReasonRequest,
    endpoints.RollbackRequest,
    experiments.PromoteRequest,
    experiments.ArmRequest,
    documents.Experiment,
    notify.WebhookRequest,
    serving_documents.PredictRequest,
    serving_documents.DecideRequest,
    serving_documents.FeedbackRequest,
    serving_documents.FeedbackBatchRequest,
)
_ANSWERS: tuple[type, ...] = (
    answers.Model,
    answers.Endpoint,
    answers.Experiment,
    answers.Results,
    answers.ModelPage,
    answers.EndpointPage,
    answers.ChampionPage,
    answers.BaselinePage,
    answers.ExperimentPage,
    answers.AuditPage,
    answers.Webhook,
    answers.NewWebhook,
    answers.WebhookPage,
    answers.Problem,
    answers.FeedbackStatus,
    answers.FeedbackResults,
    serving_documents.PredictResponse,
    serving_documents.DecideResponse,
)


class _KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # its metaclass is untyped
    """Tells drf-spectacular of our keys; how they are sent stands in `document`."""

    target_class = "noregret.access.authentication.ApiKeyAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer"}


def _schemas() -> tuple[dict[type, dict[str, Any]], dict[str, Any]]:
    kinds = (*_BODIES, *_ANSWERS)
    references, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return dict(zip(kinds, references, strict=True)), components


_REFERENCES, _COMPONENTS = _schemas()

_PAGING = [
    OpenApiParameter("limit", int, description="Items a page, 1 to 200; 50 by default."),
    OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
]
_MULTIPART = {
    "type": "object",
    "required": ["name", "version", "framework", "artifact"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "version": {"type": "string"},
        "framework": {"type": "string", "enum": ["sklearn"]},
        "artifact": {"type": "string", "format": "binary", "description": "A file of skops.io.dump."},
        "sample": {"type": "string", "description": "Rows as JSON, to check the compiled model on."},
    },
}


def _problems(*statuses: int) -> dict[Any, Any]:
    return {(status, _PROBLEM): _REFERENCES[answers.Problem] for status in (*_ALWAYS, *statuses)}


def _describe(
    view: type[APIView],
    method: str,
    summary: str,
    *,
    body: type | None = None,
    answer: dict[int, type],
    problems: tuple[int, ...] = (),
    multipart: dict[str, Any] | None = None,
    parameters: list[OpenApiParameter] | None = None,
    operation_id: str | None = None,
) -> None:
    request: dict[str, Any] = {}
    if body is not None:
        request["application/json"] = _REFERENCES[body]
    if multipart is not None:
        request["multipart/form-data"] = multipart
    found: dict[Any, Any] = {status: _REFERENCES[kind] for status, kind in answer.items()}
    body_problems = (413, 415) if request else ()
    extend_schema(
        operation_id=operation_id,
        summary=summary,
        request=request or None,
        responses=found | _problems(*problems, *body_problems),
        parameters=parameters,
        tags=["managing"],
    )(getattr(view, method))


def _describe_all() -> None:
    model, endpoint, experiment = answers.Model, answers.Endpoint, answers.Experiment
    _describe(
        registry.ModelsView,
        "get",
        "List model versions",
        answer={200: answers.ModelPage},
        parameters=_PAGING,
        operation_id="models_list",
    )
    _describe(
        registry.ModelsView,
        "post",
        "Register a model version",
        body=registry.ModelRequest,
        multipart=_MULTIPART,
        answer={201: model, 200: model},
        problems=(409, 422),
    )
    _describe(registry.ModelView, "get", "A model version", answer={200: model}, problems=(404,))
    _describe(
        endpoints.EndpointsView,
        "get",
        "List endpoints",
        answer={200: answers.EndpointPage},
        parameters=_PAGING,
        operation_id="endpoints_list",
    )
    _describe(
        endpoints.EndpointsView,
        "post",
        "Make an endpoint",
        body=endpoints.EndpointRequest,
        answer={201: endpoint},
        problems=(404, 409),
    )
    _describe(endpoints.EndpointView, "get", "An endpoint", answer={200: endpoint}, problems=(404,))
    _describe(
        endpoints.EndpointView,
        "patch",
        "Change an endpoint's champion or deadline",
        body=endpoints.EndpointChange,
        answer={200: endpoint},
        problems=(404, 409),
    )
    _describe(
        endpoints.EndpointRollbackView,
        "post",
        "Make the champion before this one, or an earlier one, champion again",
        body=endpoints.RollbackRequest,
        answer={200: endpoint},
        problems=(404, 409),
    )
    _describe(
        endpoints.ChampionsView,
        "get",
        "The champions that an endpoint had, newest first, and why",
        answer={200: answers.ChampionPage},
        problems=(404,),
        parameters=_PAGING,
    )
    _describe(
        endpoints.BaselinesView,
        "get",
        "What the champions of an endpoint have shown while no experiment ran, newest first",
        answer={200: answers.BaselinePage},
        problems=(404,),
        parameters=_PAGING,
    )
    _describe(
        experiments.ExperimentsView,
        "get",
        "List experiments",
        answer={200: answers.ExperimentPage},
        parameters=_PAGING,
        operation_id="experiments_list",
    )
    _describe(
        experiments.ExperimentsView,
        "post",
        "Make an experiment, as a draft",
        body=documents.Experiment,
        answer={201: experiment},
        problems=(409,),
    )
    _describe(experiments.ExperimentView, "get", "An experiment", answer={200: experiment}, problems=(404,))
    _describe(
        experiments.TransitionView,
        "post",
        "Move an experiment along its lifecycle",
        body=endpoints.ReasonRequest,
        answer={200: experiment},
        problems=(404, 409),
    )
    _describe(
        experiments.PromoteView,
        "post",
        "Make an arm's model champion, and end the experiment",
        body=experiments.PromoteRequest,
        answer={200: experiment},
        problems=(404, 409),
    )
    _describe(
        experiments.AdvanceView,
        "post",
        "Advance a canary by a step",
        body=endpoints.ReasonRequest,
        answer={200: experiment},
        problems=(404, 409),
    )
    _describe(
        experiments.ActivateView,
        "post",
        "Let an apprentice's policy serve",
        body=endpoints.ReasonRequest,
        answer={200: experiment},
        problems=(404, 409),
    )
    _describe(
        experiments.ArmsView,
        "post",
        "Add an arm",
        body=experiments.ArmRequest,
        answer={201: experiment},
        problems=(404, 409),
    )
    _describe(
        experiments.ArmView,
        "post",
        "Put an arm back into the traffic, or take it out",
        body=endpoints.ReasonRequest,
        answer={200: experiment},
        problems=(404, 409),
    )
    _describe(
        results.ResultsView,
        "get",
        "What an experiment has shown",
        answer={200: answers.Results},
        problems=(404,),
        parameters=[
            OpenApiParameter("evaluate", str, description="A policy: what would it have earned on the logged traffic?"),
            OpenApiParameter("params", str, description="That policy's parameters, a JSON object."),
            OpenApiParameter("forecast", bool, description="When might it promote? Simulated on from what is known."),
        ],
    )
    _describe(
        notify.WebhooksView,
        "get",
        "List webhooks",
        answer={200: answers.WebhookPage},
        parameters=_PAGING,
        operation_id="webhooks_list",
    )
    _describe(
        notify.WebhooksView,
        "post",
        "Make a webhook; its secret is told once",
        body=notify.WebhookRequest,
        answer={201: answers.NewWebhook},
        problems=(409,),
    )
    _describe(notify.WebhookView, "get", "A webhook", answer={200: answers.Webhook}, problems=(404,))
    extend_schema(
        summary="Remove a webhook",
        request=None,
        responses={204: None} | _problems(404),
        tags=["managing"],
    )(notify.WebhookView.delete)
    names = [OpenApiParameter("experiment", str), OpenApiParameter("endpoint", str)]
    _describe(
        trail.AuditView,
        "get",
        "Who did what, when, why",
        answer={200: answers.AuditPage},
        parameters=_PAGING + names,
    )
    times = [
        OpenApiParameter("since", str, description="A time with its zone; included."),
        OpenApiParameter("until", str, description="A time with its zone; not included."),
    ]
    extend_schema(
        summary="The ledger of an experiment, a line of JSON a decision",
        request=None,
        responses={(200, "application/x-ndjson"): {"type": "string"}} | _problems(404),
        parameters=times,
        tags=["managing"],
    )(decisions.DecisionsView.get)


_describe_all()


def _content(kind: type, media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": _REFERENCES[kind]}}


def _operation(
    summary: str, *, body: list[type], answer: dict[int, type], problems: tuple[int, ...], path: bool = True
) -> dict[str, Any]:
    schema = _REFERENCES[body[0]] if len(body) == 1 else {"oneOf": [_REFERENCES[kind] for kind in body]}
    responses: dict[str, Any] = {
        str(status): {"description": "Done", "content": _content(kind)} for status, kind in answer.items()
    }
    for status in sorted({*_ALWAYS, 413, 415, *problems}):
        responses[str(status)] = {"description": _STATUSES[status], "content": _content(answers.Problem, _PROBLEM)}
    parameters = [{"name": "endpoint", "in": "path", "required": True, "schema": {"type": "string"}}] if path else []
    return {
        "summary": summary,
        "tags": ["serving"],
        "parameters": parameters,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": responses,
        "security": _SECURITY,
    }


def _plain(summary: str, statuses: dict[str, str], media_type: str) -> dict[str, Any]:
    schema = {"type": "object"} if media_type == "application/json" else {"type": "string"}
    content = {media_type: {"schema": schema}}
    responses = {status: {"description": said, "content": content} for status, said in statuses.items()}
    return {"summary": summary, "tags": ["operations"], "responses": responses, "security": []}


def _serving_paths() -> dict[str, Any]:
    return {
        "/api/v1/endpoints/{endpoint}/predict": {
            "post": _operation(
                "Route a request to an arm and predict",
                body=[serving_documents.PredictRequest],
                answer={200: serving_documents.PredictResponse},
                problems=(404,),
            )
            | {"operationId": "predict"}
        },
        "/api/v1/endpoints/{endpoint}/decide": {
            "post": _operation(
                "Route a request to an arm",
                body=[serving_documents.DecideRequest],
                answer={200: serving_documents.DecideResponse},
                problems=(404,),
            )
            | {"operationId": "decide"}
        },
        "/api/v1/feedback": {
            "post": _operation(
                "Say how a decision went, or many",
                body=[serving_documents.FeedbackRequest, serving_documents.FeedbackBatchRequest],
                answer={200: answers.FeedbackStatus, 202: answers.FeedbackStatus, 207: answers.FeedbackResults},
                problems=(404, 409),
                path=False,
            )
            | {"operationId": "feedback"}
        },
        "/healthz": {"get": _plain("Does the process live?", {"200": "It does"}, "application/json")},
        "/readyz": {
            "get": _plain("Can this process serve?", {"200": "It can", "503": "It can't; says why"}, "application/json")
            | {
                "parameters": [
                    {
                        "name": "strict",
                        "in": "query",
                        "description": "`1`: 503 for anything that is wrong, also what other processes would have alike.",
                        "schema": {"type": "string", "enum": ["0", "1"]},
                    }
                ]
            }
        },
        "/metrics": {"get": _plain("Prometheus metrics", {"200": "Text form"}, "text/plain")},
    }


def document() -> dict[str, Any]:
    """The whole document."""
    generator: Any = SchemaGenerator  # untyped in the library
    made: dict[str, Any] = generator().get_schema(request=None, public=True)
    # The generator drops descriptions it does not know: give every answer of the control plane its own.
    for operations in made["paths"].values():
        for operation in operations.values():
            operation["security"] = _SECURITY
            for status, response in operation["responses"].items():
                response["description"] = _STATUSES.get(int(status), "Done")
    made["paths"] |= _serving_paths()
    made["components"] = {
        "schemas": _COMPONENTS,
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        },
    }
    return made
