"""Noregret's own protocol over HTTP: predict, decide, feedback, activate. What they do is in
serving.api.face."""

from typing import Any

import msgspec
from falcon import HTTPMethodNotAllowed, Request, Response
from falcon.util import code_to_http_status

from serving.api import documents, face, once
from serving.api.calls import JSON, Call, declared
from serving.api.keys import presented
from serving.deciding import Decision
from serving.process import process

from .route import Route
from .sent_bodies import read_json

_encode = msgspec.json.Encoder().encode
_PONG = _encode({"status": "ok"})


def _times(decision: Decision) -> str:
    return (
        f"route;dur={decision.route_seconds * 1000:.3f}, predict;dur={decision.predict_seconds * 1000:.3f}, "
        f"record;dur={decision.record_seconds * 1000:.3f}"
    )


def _answer(response: Response, document: Any) -> None:
    response.data = _encode(document)


def _answer_decided(response: Response, told: face.Predicted | face.Decided) -> None:
    _answer(response, told.document)
    response.set_header("Server-Timing", _times(told.decision))


class Resource:
    """One address. Falcon answers OPTIONS by itself where nobody else does; here it is a method
    like any other."""

    def on_options(self, request: Request, response: Response, **path: str) -> None:
        raise HTTPMethodNotAllowed([])


class Predict(Resource):
    """/api/v1/endpoints/{endpoint}/predict"""

    @declared(
        Call(
            "Route a request to an arm and predict",
            {200: documents.PredictResponse},
            bodies={JSON: documents.PredictRequest},
            problems=(404,),
            name="predict",
        )
    )
    def on_post(self, request: Request, response: Response, endpoint: str) -> None:
        parts = process()
        live = face.admit(parts, presented(request.env), endpoint)
        _answer_decided(response, face.predict(parts, live, read_json(request.env, parts.body_limit)))


class Predictions(Resource):
    """/api/v1/endpoints/{endpoint}/predictions"""

    @declared(
        Call(
            "Predict for many requests, each decided once by its request_id",
            {207: documents.PredictionResults},
            bodies={JSON: documents.PredictionsRequest},
            problems=(404,),
            name="predictions",
        )
    )
    def on_post(self, request: Request, response: Response, endpoint: str) -> None:
        parts = process()
        live = face.admit(parts, presented(request.env), endpoint)
        results = once.predict_each(parts, live, read_json(request.env, parts.body_limit))
        response.status = code_to_http_status(207)
        _answer(response, {"results": results})


class Decide(Resource):
    """/api/v1/endpoints/{endpoint}/decide"""

    @declared(
        Call(
            "Route a request to an arm",
            {200: documents.DecideResponse},
            bodies={JSON: documents.DecideRequest},
            problems=(404,),
            name="decide",
        )
    )
    def on_post(self, request: Request, response: Response, endpoint: str) -> None:
        parts = process()
        live = face.admit(parts, presented(request.env), endpoint)
        _answer_decided(response, face.decide_only(parts, live, read_json(request.env, parts.body_limit)))


class Feedback(Resource):
    """/api/v1/feedback"""

    @declared(
        Call(
            "Say how a decision went, or many",
            {200: documents.FeedbackStatus, 202: documents.FeedbackStatus, 207: documents.FeedbackResults},
            bodies={JSON: (documents.FeedbackRequest, documents.FeedbackBatchRequest)},
            problems=(404, 409),
            name="feedback",
        )
    )
    def on_post(self, request: Request, response: Response) -> None:
        parts = process()
        key = face.admit_feedback(parts, presented(request.env))
        status, document = face.feedback(parts, key, read_json(request.env, parts.body_limit))
        response.status = code_to_http_status(status)
        _answer(response, document)


class Activate(Resource):
    """/api/v1/activate"""

    @declared(
        Call(
            "Say that decisions were shown, which were made with activate: false",
            {207: documents.ActivationResults},
            bodies={JSON: documents.ActivateRequest},
            name="activate",
        )
    )
    def on_post(self, request: Request, response: Response) -> None:
        parts = process()
        key = face.admit_feedback(parts, presented(request.env))
        status, document = face.activate(parts, key, read_json(request.env, parts.body_limit))
        response.status = code_to_http_status(status)
        _answer(response, document)


class Ping(Resource):
    """/api/v1/ping: fixed JSON, for the benchmark: what the data plane answers at most."""

    @declared(Call("Fixed JSON, for the benchmark alone", {200: dict[str, Any]}, name="ping", open=True))
    def on_get(self, request: Request, response: Response) -> None:
        response.data = _PONG

    def on_head(self, request: Request, response: Response) -> None:
        self.on_get(request, response)


AREA = None
"""Django answers what these routes don't."""

ROUTES = (
    Route("/api/v1/endpoints/{endpoint}/predict", Predict(), ("POST",)),
    Route("/api/v1/endpoints/{endpoint}/predictions", Predictions(), ("POST",)),
    Route("/api/v1/endpoints/{endpoint}/decide", Decide(), ("POST",)),
    Route("/api/v1/feedback", Feedback(), ("POST",)),
    Route("/api/v1/activate", Activate(), ("POST",)),
    Route("/api/v1/ping", Ping(), ("GET", "HEAD"), limit=0),
)
