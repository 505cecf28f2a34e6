"""Experiments over HTTP: documents in, transitions, results out."""

import msgspec
from rest_framework.request import Request
from rest_framework.response import Response

from noregret.experiments import document as documents
from noregret.experiments.addressed import AddressedView
from noregret.experiments.errors import Invalid
from noregret.experiments.lifecycle import TRANSITIONS, Action
from noregret.experiments.visibility import require_seen
from noregret.rest.pagination import page
from noregret.rest.parsers import typed
from noregret.rollout.arms import add_arm, set_enabled
from noregret.rollout.creation import create_experiment
from noregret.rollout.transitions import activate, advance, move
from serving import problems

from . import render
from .endpoints import Reason, ReasonRequest


class PromoteRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Which arm becomes champion, and why."""

    arm: str
    reason: Reason = ""


class ExperimentsView(AddressedView):
    """GET and POST /api/v1/experiments"""

    def get(self, request: Request) -> Response:
        return Response(page(request, self.seen_experiments(), render.experiment))

    def post(self, request: Request) -> Response:
        document = typed(request, documents.Experiment)
        if not self.caller.may_see(document.endpoint):
            raise Invalid("endpoint", f"there is no endpoint {document.endpoint}")
        require_seen(self.caller.endpoints, {f"arms[{i}].model": arm.model for i, arm in enumerate(document.arms)})
        made = create_experiment(document, actor=self.caller.name)
        return Response(render.experiment(self.experiment(made.name)), status=201)


class ExperimentView(AddressedView):
    """GET /api/v1/experiments/{name}"""

    def get(self, request: Request, name: str) -> Response:
        return Response(render.experiment(self.experiment(name)))


class TransitionView(AddressedView):
    """POST /api/v1/experiments/{name}/start, /pause, /resume, /stop, /rollback"""

    action: Action = "start"

    def post(self, request: Request, name: str) -> Response:
        experiment = self.experiment(name)
        form = typed(request, ReasonRequest)
        move(experiment, self.action, actor=self.caller.name, reason=form.reason)
        return Response(render.experiment(self.experiment(name)))


class PromoteView(AddressedView):
    """POST /api/v1/experiments/{name}/promote"""

    def post(self, request: Request, name: str) -> Response:
        experiment = self.experiment(name)
        form = typed(request, PromoteRequest)
        arm = experiment.arms.select_related("model").filter(name=form.arm).first()
        if arm is None:
            raise Invalid("arm", f"{name} has no arm {form.arm[:80]}")
        move(experiment, "promote", actor=self.caller.name, reason=form.reason, arm=arm)
        return Response(render.experiment(self.experiment(name)))


class AdvanceView(AddressedView):
    """POST /api/v1/experiments/{name}/advance"""

    def post(self, request: Request, name: str) -> Response:
        experiment = self.experiment(name)
        form = typed(request, ReasonRequest)
        advance(experiment, actor=self.caller.name, reason=form.reason)
        return Response(render.experiment(self.experiment(name)))


class ActivateView(AddressedView):
    """POST /api/v1/experiments/{name}/activate"""

    def post(self, request: Request, name: str) -> Response:
        experiment = self.experiment(name)
        form = typed(request, ReasonRequest)
        activate(experiment, actor=self.caller.name, reason=form.reason)
        return Response(render.experiment(self.experiment(name)))


class ArmRequest(documents.Arm, forbid_unknown_fields=True, kw_only=True):
    """A new arm, and why."""

    reason: Reason = ""


class ArmsView(AddressedView):
    """POST /api/v1/experiments/{name}/arms"""

    def post(self, request: Request, name: str) -> Response:
        experiment = self.experiment(name)
        form = typed(request, ArmRequest)
        require_seen(self.caller.endpoints, {"model": form.model})
        add_arm(experiment, form, actor=self.caller.name, reason=form.reason)
        return Response(render.experiment(self.experiment(name)), status=201)


class ArmView(AddressedView):
    """POST /api/v1/experiments/{name}/arms/{arm}/enable, /disable"""

    enabled: bool = True

    def post(self, request: Request, name: str, arm: str) -> Response:
        experiment = self.experiment(name)
        form = typed(request, ReasonRequest)
        found = experiment.arms.select_related("experiment", "model").filter(name=arm).first()
        if found is None:
            raise problems.not_found(f"{name} has no arm {arm[:80]}")
        set_enabled(found, self.enabled, actor=self.caller.name, reason=form.reason)
        return Response(render.experiment(self.experiment(name)))


ACTIONS: tuple[Action, ...] = tuple(action for action in TRANSITIONS if action != "promote")
