"""Endpoints over HTTP."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from rest_framework.request import Request
from rest_framework.response import Response

from noregret.experiments.addressed import AddressedView
from noregret.experiments.document import Reward
from noregret.experiments.visibility import require_seen
from noregret.names import ModelRef, Name
from noregret.rest.pagination import page
from noregret.rest.parsers import typed
from noregret.rollout.endpoints import create_endpoint, rollback_endpoint, update_endpoint
from serving import problems

from . import render

Deadline = Annotated[int, Meta(ge=1, le=60_000, description="Milliseconds.")]
Record = Annotated[
    float, Meta(ge=0, le=1, description="The share of decisions that is recorded while no experiment runs.")
]
Reason = Annotated[str, Meta(max_length=2000)]


class EndpointRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A new endpoint."""

    name: Name
    champion: ModelRef
    deadline_ms: Deadline = 300
    sticky: bool = False
    record: Record = 1.0
    reward: Reward | None = None


class EndpointChange(msgspec.Struct, forbid_unknown_fields=True):
    """What of an endpoint is to change."""

    champion: ModelRef | UnsetType = UNSET
    deadline_ms: Deadline | UnsetType = UNSET
    sticky: bool | UnsetType = UNSET
    record: Record | UnsetType = UNSET
    reward: Reward | UnsetType | None = UNSET
    reason: Reason = ""


class ReasonRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Why, for the audit trail."""

    reason: Reason = ""


class RollbackRequest(ReasonRequest, forbid_unknown_fields=True):
    """Back to the champion before this one, or to an earlier one by its name."""

    to: ModelRef | UnsetType = UNSET


class EndpointsView(AddressedView):
    """GET and POST /api/v1/endpoints"""

    def get(self, request: Request) -> Response:
        return Response(page(request, self.seen_endpoints(), render.endpoint))

    def post(self, request: Request) -> Response:
        form = typed(request, EndpointRequest)
        if not self.caller.may_see(form.name):
            raise problems.not_found("this key is limited to other endpoints")
        require_seen(self.caller.endpoints, {"champion": form.champion})
        made = create_endpoint(
            name=form.name,
            champion=form.champion,
            deadline_ms=form.deadline_ms,
            sticky=form.sticky,
            record=form.record,
            reward=form.reward,
            actor=self.caller.name,
        )
        return Response(render.endpoint(self.endpoint(made.name)), status=201)


class EndpointView(AddressedView):
    """GET and PATCH /api/v1/endpoints/{name}"""

    def get(self, request: Request, name: str) -> Response:
        return Response(render.endpoint(self.endpoint(name)))

    def patch(self, request: Request, name: str) -> Response:
        endpoint = self.endpoint(name)
        form = typed(request, EndpointChange)
        if form.champion is not UNSET:
            require_seen(self.caller.endpoints, {"champion": form.champion})
        update_endpoint(
            endpoint,
            champion=None if form.champion is UNSET else form.champion,
            deadline_ms=None if form.deadline_ms is UNSET else form.deadline_ms,
            sticky=None if form.sticky is UNSET else form.sticky,
            record=None if form.record is UNSET else form.record,
            reward=form.reward,
            reason=form.reason,
            actor=self.caller.name,
        )
        return Response(render.endpoint(self.endpoint(name)))


class EndpointRollbackView(AddressedView):
    """POST /api/v1/endpoints/{name}/rollback"""

    def post(self, request: Request, name: str) -> Response:
        endpoint = self.endpoint(name)
        form = typed(request, RollbackRequest)
        to = None if form.to is UNSET else form.to
        if to is not None:
            require_seen(self.caller.endpoints, {"to": to})
        rollback_endpoint(endpoint, to=to, reason=form.reason, actor=self.caller.name)
        return Response(render.endpoint(self.endpoint(name)))


class ChampionsView(AddressedView):
    """GET /api/v1/endpoints/{name}/champions"""

    def get(self, request: Request, name: str) -> Response:
        rows = self.endpoint(name).champion_changes.select_related("champion", "previous", "experiment")
        return Response(page(request, rows, render.champion_change))


class BaselinesView(AddressedView):
    """GET /api/v1/endpoints/{name}/baselines"""

    def get(self, request: Request, name: str) -> Response:
        rows = self.endpoint(name).baselines.select_related("champion", "endpoint")
        return Response(page(request, rows, render.baseline))
