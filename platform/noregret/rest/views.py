"""What the control plane's views share: the caller, what it may see, and services' refusals as problems."""

from contextlib import ExitStack, suppress
from functools import cached_property
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from noregret.access.authentication import Caller
from noregret.experiments import errors as experiments_errors
from noregret.experiments.models import Endpoint, Experiment
from noregret.registry import errors as registry_errors
from serving import problems
from serving.api.bodies import drain
from serving.process import process

from .reads import SAFE, bounded_reads


class ManageView(APIView):
    """A view that calls one service or selector and renders what it gave."""

    @property
    def caller(self) -> Caller:
        user: Any = self.request.user
        assert isinstance(user, Caller)
        return user

    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(_refusal(exc) or exc)

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
            # Who changes something and then asks this process sees the change; other processes follow within their interval.
            process().store.refresh(seconds=1.0)
        if response.status_code >= 400 and self._caller_is_known:
            drain(request._request, settings.ARTIFACT_LIMIT)
        return super().finalize_response(request, response, *args, **kwargs)

    def seen_endpoints(self) -> "QuerySet[Endpoint]":
        """The endpoints that the caller may see."""
        rows = Endpoint.objects.select_related("champion")
        return rows if self.caller.endpoints is None else rows.filter(name__in=self.caller.endpoints)

    def endpoint(self, name: str) -> Endpoint:
        found = self.seen_endpoints().filter(name=name).first()
        if found is None:
            raise problems.not_found(f"there is no endpoint {name[:80]}")
        return found

    def seen_experiments(self) -> "QuerySet[Experiment]":
        """The experiments on endpoints that the caller may see."""
        rows = Experiment.objects.select_related("endpoint", "promoted_arm").prefetch_related("arms__model")
        return rows if self.caller.endpoints is None else rows.filter(endpoint__name__in=self.caller.endpoints)

    def experiment(self, name: str) -> Experiment:
        found = self.seen_experiments().filter(name=name).first()
        if found is None:
            raise problems.not_found(f"there is no experiment {name[:80]}")
        return found


def _refusal(error: Exception) -> problems.Problem | None:
    """A service's refusal as a problem; None for another exception."""
    match error:
        case experiments_errors.Invalid() | registry_errors.DefinitionInvalid():
            return problems.invalid_fields([{"field": error.field, "message": error.message}])
        case experiments_errors.Conflict() | registry_errors.NameTaken() | registry_errors.VersionTaken():
            return problems.conflict(str(error))
        case (
            registry_errors.TooManyUploads()
            | registry_errors.StoreUnavailable()
            | registry_errors.InspectionUnfinished()
        ):
            return problems.unavailable(str(error), retry_after=10)
        case registry_errors.ArtifactRefused():
            return problems.refused(str(error))
        case _:
            return None
