"""What the control plane's views share: the caller, bounded reads, and services' refusals as
problems."""

from contextlib import ExitStack, suppress
from functools import cached_property
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from serving.process import CannotServe, process
from serving.web.sent_bodies import drain

from .caller import Caller
from .reads import SAFE, bounded_reads
from .refusals import refusal


class ManageView(APIView):
    """A view that calls one service or selector and renders what it gave."""

    @property
    def caller(self) -> Caller:
        user: Any = self.request.user
        assert isinstance(user, Caller)
        return user

    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(refusal(exc) or exc)

    _caller_is_known = False

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self._caller_is_known = True
        if request.method in SAFE:
            self._reading.enter_context(bounded_reads())

    @cached_property
    def _reading(self) -> ExitStack:
        return ExitStack()

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        # What was read is complete, whatever becomes of the connection that it was read on.
        with suppress(DatabaseError):
            self._reading.close()
        if request.method not in {"GET", "HEAD", "OPTIONS"} and response.status_code < 300:
            # Who changes something and then asks this process sees the change; other processes
            # follow within their interval. What is done is done where this one can't serve.
            with suppress(CannotServe):
                process().store.refresh(seconds=1.0)
        if response.status_code >= 400 and self._caller_is_known:
            drain(request.META, settings.ARTIFACT_LIMIT, request._request.read)
        return super().finalize_response(request, response, *args, **kwargs)
