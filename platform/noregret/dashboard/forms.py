"""The admin's forms: fields, and the one service that each calls."""

from datetime import timedelta
from typing import Any

import msgspec
from django import forms
from django.db.models import Model
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from bandits import policies
from noregret.access.keys import SCOPES, create_key
from noregret.experiments import document as documents
from noregret.experiments.creation import create_experiment
from noregret.experiments.endpoints import create_endpoint
from noregret.experiments.errors import Invalid
from noregret.experiments.models import Endpoint
from noregret.registry.models import ModelVersion
from noregret.registry.register import Definition, register_model

from .pages import ServiceForm


def _text(**options: Any) -> forms.CharField:
    return forms.CharField(widget=UnfoldAdminTextInputWidget(), max_length=255, **options)


class KeyForm(ServiceForm):
    name = _text(help_text="Who will use it.")
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in SCOPES], widget=UnfoldAdminSelectMultipleWidget()
    )
    endpoints = _text(required=False, help_text="Separated by commas; empty: every endpoint.")
    days = forms.IntegerField(
        required=False,
        min_value=1,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Days that it is good for; empty: for ever.",
    )
    text = ""

    def perform(self, actor: str) -> Model:
        data = self.cleaned_data
        endpoints = [part.strip() for part in data["endpoints"].split(",") if part.strip()]
        key, self.text = create_key(
            name=data["name"],
            scopes=data["scopes"],
            endpoints=endpoints or None,
            expires_in=timedelta(days=data["days"]) if data["days"] else None,
            actor=actor,
        )
        return key


class ModelForm(ServiceForm):
    name = _text()
    version = _text()
    framework = forms.ChoiceField(choices=ModelVersion.Framework, widget=UnfoldAdminSelectWidget())
    artifact = forms.FileField(
        required=False, widget=UnfoldAdminFileFieldWidget(), help_text="For scikit-learn: a file of skops.io.dump."
    )
    callable = _text(required=False, help_text="For a Python callable: package.module.function, on the allow-list.")
    payload = forms.JSONField(
        required=False, widget=UnfoldAdminTextareaWidget(), help_text="For a static payload: any JSON."
    )

    def perform(self, actor: str) -> Model:
        data = self.cleaned_data
        artifact = data["artifact"]
        definition = Definition(
            data["name"],
            data["version"],
            data["framework"],
            artifact=None if artifact is None else artifact.read(),
            callable=data["callable"],
            payload=data["payload"],
        )
        return register_model(definition, actor=actor)[0]


class ModelChoice(forms.ModelChoiceField):  # type: ignore[type-arg]  # no generic at run time
    def label_from_instance(self, obj: Any) -> str:
        return str(obj.model)


class ModelsChoice(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]  # as above
    def label_from_instance(self, obj: Any) -> str:
        return str(obj.model)


class EndpointForm(ServiceForm):
    name = _text(help_text="What clients call: it stays when the model behind it changes.")
    champion = ModelChoice(queryset=ModelVersion.objects.all(), widget=UnfoldAdminSelectWidget())
    deadline_ms = forms.IntegerField(
        label="Deadline in ms", initial=300, min_value=1, max_value=60_000, widget=UnfoldAdminIntegerFieldWidget()
    )

    def perform(self, actor: str) -> Model:
        data = self.cleaned_data
        return create_endpoint(
            name=data["name"], champion=data["champion"].model, deadline_ms=data["deadline_ms"], actor=actor
        )


class ExperimentForm(ServiceForm):
    name = _text()
    endpoint = forms.ModelChoiceField(queryset=Endpoint.objects.all(), widget=UnfoldAdminSelectWidget())
    strategy = forms.ChoiceField(
        choices=[
            ("bandit", "Bandit: learns, and shifts traffic to the better arm"),
            ("ab", "A/B: a fixed, even split"),
        ],
        widget=UnfoldAdminSelectWidget(),
    )
    arms = ModelsChoice(
        queryset=ModelVersion.objects.all(),
        widget=UnfoldAdminSelectMultipleWidget(),
        help_text="The versions to compare. The endpoint's champion is added as `control` if it is not among them.",
    )
    policy = forms.ChoiceField(
        required=False,
        choices=[(name, name) for name in policies.names()],
        initial="thompson",
        widget=UnfoldAdminSelectWidget(),
        help_text="For a bandit. thompson earns most while it learns; uniform decides soonest; ucb1 is the cautious classic.",
    )
    floor = forms.FloatField(
        required=False,
        initial=0.05,
        min_value=0,
        max_value=1,
        widget=UnfoldAdminTextInputWidget(),
        help_text="The least share of traffic that every arm keeps: more of it decides sooner and earns less.",
    )
    reward_kind = forms.ChoiceField(
        choices=[("binary", "binary: 0 or 1"), ("continuous", "continuous"), ("count", "count")],
        widget=UnfoldAdminSelectWidget(),
    )
    direction = forms.ChoiceField(
        choices=[("maximize", "more is better"), ("minimize", "less is better")], widget=UnfoldAdminSelectWidget()
    )
    minimum = forms.FloatField(required=False, widget=UnfoldAdminTextInputWidget())
    maximum = forms.FloatField(required=False, widget=UnfoldAdminTextInputWidget())
    window_seconds = forms.FloatField(
        label="Attribution window in seconds",
        initial=3600,
        widget=UnfoldAdminTextInputWidget(),
        help_text="How long after a decision its reward counts.",
    )
    auto = forms.BooleanField(
        label="Promote automatically",
        required=False,
        initial=True,
        widget=UnfoldBooleanWidget(),
        help_text="When the evidence holds (anytime rule, alpha 0.05).",
    )

    def perform(self, actor: str) -> Model:
        try:
            document = msgspec.convert(self._document(), documents.Experiment)
        except msgspec.ValidationError as error:
            raise Invalid("name", str(error)) from error
        return create_experiment(document, actor=actor)

    def _document(self) -> dict[str, Any]:
        data = self.cleaned_data
        body: dict[str, Any] = {
            "name": data["name"],
            "endpoint": data["endpoint"].name,
            "strategy": data["strategy"],
            "arms": [{"name": f"v{arm.version}"[:63], "model": arm.model} for arm in data["arms"]],
            "reward": {
                "kind": data["reward_kind"],
                "direction": data["direction"],
                "minimum": data["minimum"],
                "maximum": data["maximum"],
                "window_seconds": data["window_seconds"],
            },
            "promotion": {"auto": data["auto"]},
        }
        if data["strategy"] == "bandit":
            body["policy"] = {"name": data["policy"] or "thompson", "floor": data["floor"] or 0.0}
        return body


class ReasonForm(forms.Form):
    """Why, for the audit trail."""

    reason = forms.CharField(required=False, max_length=2000, widget=UnfoldAdminTextareaWidget())
