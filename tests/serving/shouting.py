"""A protocol in one file: a line of numbers in, a line out, errors as a line. What it does is
serving.api.face's.
"""

from collections.abc import Mapping
from typing import Any

from falcon import Request, Response

from serving import problems
from serving.api import face
from serving.api.calls import Call, declared
from serving.api.documents import PredictRequest
from serving.api.keys import presented
from serving.problems import Problem
from serving.process import process
from serving.web.native import Resource
from serving.web.refusals import Refusal
from serving.web.route import Area, Route


class Shout(Resource):
    """/shout/{endpoint}"""

    @declared(Call("Shout", answers={200: str}, media_type="text/plain"))
    def on_post(self, request: Request, response: Response, endpoint: str) -> None:
        parts = process()
        live = face.admit(parts, presented(request.env), endpoint)
        try:
            row = [float(part) for part in request.bounded_stream.read().split(b",")]
        except ValueError as error:
            raise problems.invalid_fields([{"field": "body", "message": "numbers were expected"}]) from error
        predicted = face.predict(parts, live, PredictRequest(inputs=[row]))
        response.content_type = "text/plain"
        response.text = f"{predicted.document.model} SAYS {predicted.document.outputs['predict'][0]}!"


def tell(environ: Mapping[str, Any], problem: Problem) -> Refusal:
    return Refusal(problem.status, "text/plain", f"NO: {problem}!".encode(), problem.headers)


AREA = Area("/shout", tell)
ROUTES = (Route("/shout/{endpoint}", Shout(), ("POST",), limit=1000, tell=tell),)
