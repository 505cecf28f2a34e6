"""Endpoints over HTTP."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from rest_framework.request import Request

from noregret.experiments.addressed import AddressedView
from noregret.experiments.batches import Batch
from noregret.experiments.caching import Cache
from noregret.experiments.document import Reward
from noregret.experiments.visibility import require_seen
from noregret.names import ModelRef, Name
from noregret.rest.calls import call
from noregret.rest.pagination import PAGING, Page, page
from noregret.rollout.endpoints import create_endpoint, rollback_endpoint, update_endpoint
from noregret.trail.reasons import Reason
from serving import problems

from . import render
from .reasons import ReasonRequest, said
from .render import Baseline, ChampionChange, Endpoint

Deadline = Annotated[int, Meta(ge=1, le=60_000, description="Milliseconds.")]
Record = Annotated[
    float, Meta(ge=0, le=1, description="The share of decisions that is recorded while no experiment runs.")
]
Sticky = Annotated[bool, Meta(description="Bandits that do not say otherwise keep a unit on its arm.")]
Force = Annotated[
    bool, Meta(description="Also to a champion whose file is lost: web processes may still have copies of it.")
]


class EndpointRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A new endpoint."""

    name: Name
    champion: ModelRef
    deadline_ms: Deadline = 300
    sticky: Sticky = False
    record: Record = 1.0
    reward: Reward | None = None
    cache: Cache | None = None
    batch: Batch | None = None


class EndpointChange(msgspec.Struct, forbid_unknown_fields=True):
    """What of an endpoint is to change."""

    champion: ModelRef | UnsetType = UNSET
    deadline_ms: Deadline | UnsetType = UNSET
    sticky: Sticky | UnsetType = UNSET
    record: Record | UnsetType = UNSET
    reward: Reward | UnsetType | None = UNSET
    cache: Cache | UnsetType | None = UNSET
    batch: Batch | UnsetType | None = UNSET
    force: Force = False
    reason: Reason = ""


class RollbackRequest(ReasonRequest, forbid_unknown_fields=True):
    """Back to the champion before this one, or to an earlier one by its name."""

    to: ModelRef | UnsetType = UNSET
    force: Force = False


class EndpointsView(AddressedView):
    """GET and POST /api/v1/endpoints"""

    @call("List endpoints", parameters=PAGING, name="endpoints_list")
    def get(self, request: Request) -> Page[Endpoint]:
        return page(request, self.seen_endpoints(), render.endpoint)

    @call("Make an endpoint", status=201, problems=(404, 409))
    def post(self, request: Request, body: EndpointRequest) -> Endpoint:
        if not self.caller.may_see(body.name):
            raise problems.not_found("this key is limited to other endpoints")
        require_seen(self.caller.endpoints, {"champion": body.champion})
        row = create_endpoint(
            name=body.name,
            champion=body.champion,
            deadline_ms=body.deadline_ms,
            sticky=body.sticky,
            record=body.record,
            reward=body.reward,
            cache=body.cache,
            batch=body.batch,
            actor=self.caller.name,
        )
        return render.endpoint(self.endpoint(row.name))


class EndpointView(AddressedView):
    """GET and PATCH /api/v1/endpoints/{name}"""

    @call("An endpoint", problems=(404,))
    def get(self, request: Request, name: str) -> Endpoint:
        return render.endpoint(self.endpoint(name))

    @call("Change an endpoint's champion, deadline, or what of it is recorded or kept", problems=(404, 409))
    def patch(self, request: Request, name: str, body: EndpointChange) -> Endpoint:
        row = self.endpoint(name)
        if body.champion is not UNSET:
            require_seen(self.caller.endpoints, {"champion": body.champion})
        update_endpoint(
            row,
            champion=None if body.champion is UNSET else body.champion,
            deadline_ms=None if body.deadline_ms is UNSET else body.deadline_ms,
            sticky=None if body.sticky is UNSET else body.sticky,
            record=None if body.record is UNSET else body.record,
            reward=body.reward,
            cache=body.cache,
            batch=body.batch,
            force=body.force,
            reason=said(body.reason),
            actor=self.caller.name,
        )
        return render.endpoint(self.endpoint(name))


class EndpointRollbackView(AddressedView):
    """POST /api/v1/endpoints/{name}/rollback"""

    @call("Make the champion before this one, or an earlier one, champion again", problems=(404, 409))
    def post(self, request: Request, name: str, body: RollbackRequest) -> Endpoint:
        row = self.endpoint(name)
        to = None if body.to is UNSET else body.to
        if to is not None:
            require_seen(self.caller.endpoints, {"to": to})
        rollback_endpoint(row, to=to, force=body.force, reason=said(body.reason), actor=self.caller.name)
        return render.endpoint(self.endpoint(name))


class ChampionsView(AddressedView):
    """GET /api/v1/endpoints/{name}/champions"""

    @call("The champions that an endpoint had, newest first, and why", problems=(404,), parameters=PAGING)
    def get(self, request: Request, name: str) -> Page[ChampionChange]:
        rows = self.endpoint(name).champion_changes.select_related("champion", "previous", "experiment")
        return page(request, rows, render.champion_change)


class BaselinesView(AddressedView):
    """GET /api/v1/endpoints/{name}/baselines"""

    @call(
        "What the champions of an endpoint have shown while no experiment ran, newest first",
        problems=(404,),
        parameters=PAGING,
    )
    def get(self, request: Request, name: str) -> Page[Baseline]:
        rows = self.endpoint(name).baselines.select_related("champion", "endpoint")
        return page(request, rows, render.baseline)
