"""The OpenAPI document and a page to read it by; the page's scripts are served by us."""

from functools import cache

import msgspec
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from .document import document


@cache
def _document() -> bytes:
    return msgspec.json.format(msgspec.json.encode(document()), indent=2)


@require_safe
def schema(request: HttpRequest) -> HttpResponse:
    """GET /api/schema: OpenAPI 3.1 as JSON."""
    return HttpResponse(_document(), content_type="application/vnd.oai.openapi+json")


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """GET /api/docs"""
    return render(request, "noregret/docs.html")
