"""The digits page: drawn digits are read in the browser, by an endpoint's bundle (docs/edge.md).
Whoever opens it needs a key of the scope `edge`, which the page itself does not have."""

import hashlib
import json
from functools import cache
from pathlib import Path

from django.conf import settings
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.templatetags.static import static
from django.urls import reverse
from django.views.generic import View

from . import onnxruntime_web

# WebAssembly may be compiled; nothing else is run that is not a file of ours.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_STATIC = Path(__file__).parent / "static"
_OWN = ("digits.css", "digits.js", "drawing.js", "digit.svg")
_WORKER = "demo/digits-worker.js"


class DigitsPage(View):
    """/demo/digits"""

    def get(self, request: HttpRequest) -> HttpResponse:
        response = render(request, "demo/digits.html", {"runtime": _runtime()})
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response


class DigitsWorker(View):
    """/demo/digits/worker.js: the service worker, and before it what it is to keep."""

    def get(self, request: HttpRequest) -> HttpResponse:
        headers = {
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            "Service-Worker-Allowed": reverse("digits-page"),
            "Cache-Control": "no-cache",
        }
        return HttpResponse(_worker(_runtime()), content_type="text/javascript", headers=headers)


class DigitsRuntime(View):
    """/demo/digits/onnxruntime-web-VERSION/NAME: what runs models, where it was fetched."""

    def get(self, request: HttpRequest, name: str) -> HttpResponseBase:
        if name not in onnxruntime_web.NAMES or not onnxruntime_web.is_there(settings.DATA_DIR):
            raise Http404(f"{name} of onnxruntime-web was not fetched: manage.py digits-page does it")
        path = settings.DATA_DIR / onnxruntime_web.FOLDER / name
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
        compressed = path.with_name(f"{name}.gz")
        if "gzip" in request.headers.get("Accept-Encoding", "") and compressed.is_file():
            path, headers["Content-Encoding"] = compressed, "gzip"
        kind = "application/wasm" if name == onnxruntime_web.BINARY else "text/javascript"
        return FileResponse(path.open("rb"), content_type=kind, headers=headers)


def _runtime(name: str = onnxruntime_web.SCRIPT) -> str:
    """The address of a file of onnxruntime-web, nothing where that is not here."""
    return reverse("digits-runtime", args=[name]) if onnxruntime_web.is_there(settings.DATA_DIR) else ""


@cache
def _worker(runtime: str) -> str:
    own = [f"demo/{name}" for name in _OWN]
    own += sorted(f"demo/{path.relative_to(_STATIC / 'demo')}" for path in _client_files())
    digest = hashlib.sha256(runtime.encode())
    for path in (_template(), *(_STATIC / name for name in [_WORKER, *own])):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    addresses = [reverse("digits-page"), *map(static, own)]
    if runtime:
        addresses += [_runtime(name) for name in onnxruntime_web.NAMES]
    head = f"const VERSION = {json.dumps(digest.hexdigest()[:16])};\nconst FILES = {json.dumps(addresses)};\n"
    return head + (_STATIC / _WORKER).read_text()


def _client_files() -> list[Path]:
    """The JavaScript client's modules, by a link into it."""
    folder = _STATIC / "demo" / "client"
    return [*folder.glob("*.js"), *folder.glob("edge/*.js")]


def _template() -> Path:
    return Path(__file__).parent / "templates" / "demo" / "digits.html"
