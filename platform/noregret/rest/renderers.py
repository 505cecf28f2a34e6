"""Answers of the control plane as JSON, from the types that describe them."""

from collections.abc import Mapping
from typing import Any

import msgspec
from rest_framework.renderers import BaseRenderer


class DocumentRenderer(BaseRenderer):
    """REST framework's own knows no Structs; times are told as those are: RFC 3339, UTC as `Z`."""

    media_type = "application/json"
    format = "json"
    charset = None  # of JSON it is UTF-8, and no parameter

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        return b"" if data is None else msgspec.json.encode(data)
