"""Django's test client over the service as it is dispatched: what the data plane answers comes from
the real WSGI application."""

import io
from typing import Any

from django.http import HttpResponse
from django.test import Client

from serving.web import routes


class BothPlanes(Client):
    """Requests for the data plane's addresses go through noregret.wsgi; Django's own client makes
    all others."""

    def request(self, **request: Any) -> Any:
        environ = self._base_environ(**request)
        if not routes.holds(environ["PATH_INFO"]):
            return super().request(**request)
        from noregret.wsgi import application  # with it the process begins to serve

        body = request.get("wsgi.input")
        environ["wsgi.input"] = io.BytesIO(body.read() if body is not None else b"")
        answer = HttpResponse()

        def start(line: str, headers: list[tuple[str, str]], *more: Any) -> None:
            answer.status_code = int(line[:3])
            for name, value in headers:
                answer[name] = value

        parts = application(environ, start)
        answer.content = b"".join(parts)
        if hasattr(parts, "close"):  # a file that is sent, as a WSGI server does it
            parts.close()
        return answer
