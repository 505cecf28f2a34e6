"""From a message's body to what is going to be answered, with the decision: nothing is recorded
here, and nobody is told.

A decision's id begins with the time at which it was made, as everywhere; the rest of it follows
from the endpoint, the source, the group and the request's name. A time that followed from the
message was rejected: a consumer that is behind would date its decisions back, into evidence that is
complete.
"""

import hashlib
import time

import msgspec
from msgspec import UNSET

from serving import problems
from serving.api import face
from serving.api.documents import NamedPrediction, NumbersRequest, PredictRequest
from serving.live import LiveEndpoint
from serving.problems import Problem
from serving.process import Process
from serving.recording import Holding

from .messages import UNNAMED, VERSION, Kept, Message

Request = PredictRequest | NumbersRequest


class Failed(Exception):
    """A model could not answer: the message is tried again. `event`: the decision, which tells of
    that when the message is set aside."""

    def __init__(self, problem: Problem, event: bytes | None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.event = event


class Answering:
    """The answers to one group's requests on one endpoint."""

    def __init__(self, process: Process, endpoint: str, source: str, group: str) -> None:
        self._process = process
        self._name = "\x1f".join((endpoint, source, group))

    def read(self, live: LiveEndpoint, message: Message) -> Request:
        """The request, which has a name: its own, or its message's place. Raises Problem."""
        body = message.body or b""
        if len(body) > self._process.body_limit:
            raise problems.too_large(self._process.body_limit)
        request = face.read_predict(live, body)
        if request.request_id is UNSET or request.request_id is None:
            request.request_id = message.place
            message.name = UNNAMED + message.place
        else:
            message.name = request.request_id
        return request

    def answer(self, live: LiveEndpoint, message: Message, request: Request) -> Kept:
        """What is to be kept. Raises Problem for what can't be answered ever, Failed for what can't
        be now."""
        keeper = Holding(self._decision_id(message.name))
        try:
            document = face.predict(self._process, live, request, keeper).document
        except Problem as problem:
            if problem.status < 500:
                raise
            raise Failed(problem, keeper.event) from problem
        answer = NamedPrediction(**msgspec.structs.asdict(document), request_id=str(request.request_id))
        return Kept(VERSION, message.place, _encode(answer), keeper.event)

    def _decision_id(self, name: str) -> bytes:
        text = f"{self._name}\x1f{name}".encode("utf-8", "surrogatepass")
        return (time.time_ns() // 1000).to_bytes(8, "big") + hashlib.blake2b(text, digest_size=8).digest()


_encode = msgspec.json.Encoder().encode


def reason_of(problem: Problem) -> bytes:
    """Why a message is set aside, as a problem document."""
    return _encode(problem.document())


def reason(title: str, detail: str) -> bytes:
    """The same of what is no refusal of a request."""
    return _encode({"type": "about:blank", "title": title, "detail": detail})
