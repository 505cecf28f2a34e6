"""Bodies of the control plane: strict JSON, and multipart for artefacts; measured before they are
read."""

import copy
from collections.abc import Mapping
from typing import IO, Any, TypeVar

import msgspec
from django.conf import settings
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.request import Request

from serving import problems, strict_json
from serving.api.bodies import check_encoding, field_error

T = TypeVar("T")


def _measured(context: Mapping[str, Any] | None, limit: int) -> None:
    request = (context or {})["request"]
    check_encoding(request.META.get("HTTP_CONTENT_ENCODING", ""))
    length = request.META.get("CONTENT_LENGTH") or "0"
    if int(length) > limit:
        raise problems.too_large(limit)


class StrictJSONParser(BaseParser):
    """serving.strict_json as a parser."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        limit: int = settings.SERVING_BODY_LIMIT
        _measured(parser_context, limit)
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise problems.too_large(limit)
        if not body:
            return {}
        try:
            return strict_json.loads(body)
        except strict_json.InvalidJSON as error:
            raise problems.invalid_json(str(error)) from error


class ArtifactParser(MultiPartParser):
    """multipart/form-data with one artefact."""

    OVERHEAD = 64 * 1024
    """Bytes of such a body beside the artefact's."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        _measured(parser_context, settings.ARTIFACT_LIMIT + self.OVERHEAD)
        return super().parse(stream, media_type, parser_context)


def typed(request: Request, form: type[T]) -> T:
    """The request's JSON as a typed document. Raises Problem 400 with the field."""
    return convert(request.data, form)


def convert(data: Any, form: type[T]) -> T:
    """Raises Problem 400 with the field that is wrong."""
    try:
        return msgspec.convert(data, form, strict=True)
    except msgspec.ValidationError as error:
        raise problems.invalid_fields([field_error(str(error), copy.deepcopy(data), form)]) from error
