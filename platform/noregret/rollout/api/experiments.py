"""Experiments over HTTP: documents in, transitions, results out."""

from typing import Annotated

import msgspec
from rest_framework.request import Request

from noregret.experiments import document as documents
from noregret.experiments.addressed import AddressedView
from noregret.experiments.errors import Invalid
from noregret.experiments.lifecycle import TRANSITIONS, Action
from noregret.experiments.visibility import require_seen
from noregret.learning.shown.recommendation import against_the_evidence
from noregret.rest.calls import call
from noregret.rest.pagination import PAGING, Page, page
from noregret.rollout.arms import add_arm, set_enabled
from noregret.rollout.creation import create_experiment
from noregret.rollout.drafts import change_draft
from noregret.rollout.floors import change_floor
from noregret.rollout.transitions import activate, advance, move
from noregret.trail.reasons import Reason
from serving import problems

from . import render
from .reasons import ReasonRequest, said
from .render import ExperimentState


class PromoteRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Which arm becomes champion, and why."""

    arm: str
    reason: Reason = ""


class ChangeRequest(documents.Experiment, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A draft as it is to be, whole. `revision`: only where it is still this one."""

    revision: Annotated[int, msgspec.Meta(ge=0)] | None = None
    reason: Reason = ""


class ExperimentsView(AddressedView):
    """GET and POST /api/v1/experiments"""

    @call("List experiments", parameters=PAGING, name="experiments_list")
    def get(self, request: Request) -> Page[ExperimentState]:
        return page(request, self.seen_experiments(), render.experiment)

    @call("Make an experiment, as a draft", status=201, problems=(409,))
    def post(self, request: Request, body: documents.Experiment) -> ExperimentState:
        if not self.caller.may_see(body.endpoint):
            raise Invalid("endpoint", f"there is no endpoint {body.endpoint}")
        require_seen(self.caller.endpoints, {f"arms[{i}].model": arm.model for i, arm in enumerate(body.arms)})
        row = create_experiment(body, actor=self.caller.name)
        return render.experiment(self.experiment(row.name))


class ExperimentView(AddressedView):
    """GET and PUT /api/v1/experiments/{name}"""

    @call("An experiment", problems=(404,))
    def get(self, request: Request, name: str) -> ExperimentState:
        return render.experiment(self.experiment(name))

    @call("Change a draft", problems=(404, 409))
    def put(self, request: Request, name: str, body: ChangeRequest) -> ExperimentState:
        row = self.experiment(name)
        require_seen(self.caller.endpoints, {f"arms[{i}].model": arm.model for i, arm in enumerate(body.arms)})
        change_draft(row, body, actor=self.caller.name, reason=said(body.reason), revision=body.revision)
        return render.experiment(self.experiment(name))


class TransitionView(AddressedView):
    """POST /api/v1/experiments/{name}/start, /pause, /resume, /stop, /rollback"""

    action: Action = "start"

    @call("Move an experiment along its lifecycle", problems=(404, 409))
    def post(self, request: Request, name: str, body: ReasonRequest) -> ExperimentState:
        row = self.experiment(name)
        move(row, self.action, actor=self.caller.name, reason=said(body.reason))
        return render.experiment(self.experiment(name))


class PromoteView(AddressedView):
    """POST /api/v1/experiments/{name}/promote"""

    @call("Make an arm's model champion, and end the experiment", problems=(404, 409))
    def post(self, request: Request, name: str, body: PromoteRequest) -> ExperimentState:
        row = self.experiment(name)
        arm = row.arms.select_related("model").filter(name=body.arm).first()
        if arm is None:
            raise Invalid("arm", f"{name} has no arm {body.arm[:80]}")
        against = against_the_evidence(row, arm)
        move(row, "promote", actor=self.caller.name, reason=said(body.reason), arm=arm)
        state = render.experiment(self.experiment(name))
        warnings = [*state.warnings, f"{arm.name} was promoted {against}"] if against else state.warnings
        return msgspec.structs.replace(state, warnings=warnings)


class AdvanceView(AddressedView):
    """POST /api/v1/experiments/{name}/advance"""

    @call("Advance a canary by a step", problems=(404, 409))
    def post(self, request: Request, name: str, body: ReasonRequest) -> ExperimentState:
        row = self.experiment(name)
        advance(row, actor=self.caller.name, reason=said(body.reason))
        return render.experiment(self.experiment(name))


class ActivateView(AddressedView):
    """POST /api/v1/experiments/{name}/activate"""

    @call("Let an apprentice's policy serve", problems=(404, 409))
    def post(self, request: Request, name: str, body: ReasonRequest) -> ExperimentState:
        row = self.experiment(name)
        activate(row, actor=self.caller.name, reason=said(body.reason))
        return render.experiment(self.experiment(name))


class ArmRequest(documents.Arm, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new arm, and why."""

    reason: Reason = ""


class ArmsView(AddressedView):
    """POST /api/v1/experiments/{name}/arms"""

    @call("Add an arm", status=201, problems=(404, 409))
    def post(self, request: Request, name: str, body: ArmRequest) -> ExperimentState:
        row = self.experiment(name)
        require_seen(self.caller.endpoints, {"model": body.model})
        add_arm(row, body, actor=self.caller.name, reason=said(body.reason))
        return render.experiment(self.experiment(name))


class ArmView(AddressedView):
    """POST /api/v1/experiments/{name}/arms/{arm}/enable, /disable"""

    enabled: bool = True

    @call("Put an arm back into the traffic, or take it out", problems=(404, 409))
    def post(self, request: Request, name: str, arm: str, body: ReasonRequest) -> ExperimentState:
        row = self.experiment(name)
        found = row.arms.select_related("experiment", "model").filter(name=arm).first()
        if found is None:
            raise problems.not_found(f"{name} has no arm {arm[:80]}")
        set_enabled(found, self.enabled, actor=self.caller.name, reason=said(body.reason))
        return render.experiment(self.experiment(name))


class FloorRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The least share of every arm, and why; null: what an experiment that names none has."""

    floor: Annotated[float, msgspec.Meta(ge=0, le=1)] | None
    reason: Reason = ""


class FloorView(AddressedView):
    """POST /api/v1/experiments/{name}/floor"""

    @call("Change the least share of a bandit's arms", problems=(404, 409))
    def post(self, request: Request, name: str, body: FloorRequest) -> ExperimentState:
        row = self.experiment(name)
        change_floor(row, body.floor, actor=self.caller.name, reason=said(body.reason))
        return render.experiment(self.experiment(name))


ACTIONS: tuple[Action, ...] = tuple(action for action in TRANSITIONS if action != "promote")
