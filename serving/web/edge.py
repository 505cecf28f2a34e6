"""What devices call: bundles, model files, events (docs/edge.md). What the calls do is in
serving.api.edge."""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec
from falcon import HTTP_206, HTTP_207, HTTP_304, Request, Response
from msgspec import UNSET

from serving import problems
from serving.api import edge
from serving.api.calls import JSON, Call, declared
from serving.api.keys import presented
from serving.edge.bundle import SignedBundle
from serving.edge.documents import EdgeEventResults, EdgeEventsRequest
from serving.edge.signing import PublicKeys
from serving.process import process

from .native import Resource
from .route import Route
from .sent_bodies import read_json

_PART = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{1,15})?")
_SUFFIX = re.compile(r"bytes=-(\d{1,15})")
_encode = msgspec.json.Encoder().encode


class EdgeBundle(Resource):
    """/api/v1/endpoints/{endpoint}/edge"""

    @declared(
        Call(
            "The endpoint's bundle, for a device that decides and predicts itself",
            {200: SignedBundle, 304: None},
            problems=(404, 409),
            name="edge_bundle",
        )
    )
    def on_get(self, request: Request, response: Response, endpoint: str) -> None:
        parts = process()
        issued = edge.bundle(parts, edge.admit(parts, presented(request.env), endpoint))
        response.set_header("ETag", issued.tag)
        # It is kept, and asked for again each time.
        response.set_header("Cache-Control", "private, no-cache")
        if _names(request.env.get("HTTP_IF_NONE_MATCH", ""), issued.tag):
            response.status = HTTP_304
        else:
            response.data = issued.body

    def on_head(self, request: Request, response: Response, endpoint: str) -> None:
        self.on_get(request, response, endpoint)


class EdgeKeys(Resource):
    """/api/v1/edge/key"""

    @declared(Call("The public keys that bundles are signed with", {200: PublicKeys}, name="edge_key", open=True))
    def on_get(self, request: Request, response: Response) -> None:
        response.data = _encode(edge.public_keys(process()))
        response.set_header("Cache-Control", "public, max-age=300")

    def on_head(self, request: Request, response: Response) -> None:
        self.on_get(request, response)


class Artifact(Resource):
    """/api/v1/artifacts/{sha256}"""

    @declared(
        Call(
            "A model file that a bundle names, whole or a range of it",
            {200: Any, 206: Any, 304: None},
            problems=(404, 416),
            name="artifact",
            media_type="application/octet-stream",
        )
    )
    def on_get(self, request: Request, response: Response, sha256: str) -> None:
        file = edge.artifact(process(), presented(request.env), sha256)
        try:
            size = file.seek(0, 2)
            tag = f'"{sha256}"'
            # Its name is its content's: who has it never needs to ask again. Not for a cache that
            # others share, who may have no key.
            response.set_header("Cache-Control", "private, max-age=31536000, immutable")
            response.set_header("ETag", tag)
            response.set_header("Accept-Ranges", "bytes")
            response.content_type = "application/octet-stream"
            if _names(request.env.get("HTTP_IF_NONE_MATCH", ""), tag):
                response.status = HTTP_304
                file.close()
                return
            begin, end = _range(request, tag, size)
            if (begin, end) != (0, size):
                response.status = HTTP_206
                response.set_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
            response.content_length = end - begin
            if request.method == "HEAD":
                file.close()
                return
            file.seek(begin)
            response.stream = _Parts(file, end - begin)
        except BaseException:
            file.close()
            raise

    def on_head(self, request: Request, response: Response, sha256: str) -> None:
        self.on_get(request, response, sha256)


class EdgeEvents(Resource):
    """/api/v1/edge/events"""

    @declared(
        Call(
            "Decisions and rewards that were made on a device",
            {207: EdgeEventResults},
            bodies={JSON: EdgeEventsRequest},
            problems=(404, 429),
            name="edge_events",
        )
    )
    def on_post(self, request: Request, response: Response) -> None:
        parts = process()
        key = presented(request.env)
        if key is None and not request.env.get("HTTP_AUTHORIZATION"):
            # A page that closes can send a body, and no header.
            body = edge.events_of(read_json(request.env, parts.body_limit))
            key = None if body.key is UNSET else body.key
        else:
            edge.admit_any(parts, key)
            body = edge.events_of(read_json(request.env, parts.body_limit))
        response.status = HTTP_207
        response.data = _encode(edge.events(parts, key, body))


class _Parts:
    """So many bytes of a file from where it stands, a part at a time; it is closed with them."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length

    def __iter__(self) -> Iterator[bytes]:
        while self._left > 0:
            part = self._file.read(min(_PART, self._left))
            if not part:
                return
            self._left -= len(part)
            yield part

    def close(self) -> None:
        self._file.close()


def _names(text: str, tag: str) -> bool:
    """Does an If-None-Match name this tag?"""
    return text.strip() == "*" or tag in {one.strip().removeprefix("W/") for one in text.split(",")}


def _range(request: Request, tag: str, size: int) -> tuple[int, int]:
    """From and to where a file is asked for: one range, or else all of it. Raises Problem 416."""
    text = request.env.get("HTTP_RANGE", "").strip()
    if not text or request.env.get("HTTP_IF_RANGE", tag) != tag:
        return 0, size
    if match := _RANGE.fullmatch(text):
        begin = int(match[1])
        end = min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < begin:  # no range at all, and so passed over
            return 0, size
    elif match := _SUFFIX.fullmatch(text):
        begin, end = max(size - int(match[1]), 0), size
        if int(match[1]) == 0:
            begin = size
    else:  # several ranges, or another unit
        return 0, size
    if begin >= size:
        raise problems.range_not_satisfiable(size)
    return begin, end


AREA = None
"""Django answers what these routes don't."""

ROUTES = (
    Route("/api/v1/endpoints/{endpoint}/edge", EdgeBundle(), ("GET", "HEAD"), limit=0),
    Route("/api/v1/edge/key", EdgeKeys(), ("GET", "HEAD"), limit=0),
    Route("/api/v1/edge/events", EdgeEvents(), ("POST",)),
    Route("/api/v1/artifacts/{sha256}", Artifact(), ("GET", "HEAD"), limit=0, sends_files=True),
)
