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
)

from bandits import policies
from noregret.access.keys import SCOPES, create_key
from noregret.experiments import document as documents
from noregret.experiments.errors import Invalid
from noregret.experiments.models import Endpoint
from noregret.names import NAME_MAX_LENGTH
from noregret.registry.errors import DefinitionInvalid
from noregret.registry.frameworks import framework_choices, frameworks
from noregret.registry.frameworks.fields import Field, own_fields
from noregret.registry.jobs import register
from noregret.registry.models import ModelVersion
from noregret.rollout.creation import create_experiment
from noregret.rollout.endpoints import create_endpoint
from serving.api.bodies import field_error

from .pages import ServiceForm


def _text(**options: Any) -> forms.CharField:
    return forms.CharField(widget=UnfoldAdminTextInputWidget(), max_length=255, **options)


_SCOPES = {
    "predict": "predict: ask for predictions and decisions",
    "feedback": "feedback: send rewards",
    "manage": "manage: register models, run experiments",
}


class KeyForm(ServiceForm):
    name = _text(help_text="Who will use it, as `web-shop`.")
    scopes = forms.MultipleChoiceField(
        choices=[(scope, _SCOPES.get(scope, scope)) for scope in SCOPES], widget=forms.CheckboxSelectMultiple()
    )
    endpoints = forms.ModelMultipleChoiceField(
        required=False,
        queryset=Endpoint.objects.all(),
        widget=UnfoldAdminSelectMultipleWidget(),
        help_text="The key is good for these alone. None chosen: for every endpoint, later ones too.",
    )
    days = forms.IntegerField(
        required=False,
        min_value=1,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Days that it is good for; empty: for ever.",
    )
    text = ""

    def perform(self, actor: str) -> Model:
        data = self.cleaned_data
        endpoints = [endpoint.name for endpoint in data["endpoints"]]
        key, self.text = create_key(
            name=data["name"],
            scopes=data["scopes"],
            endpoints=endpoints or None,
            expires_in=timedelta(days=data["days"]) if data["days"] else None,
            actor=actor,
        )
        return key


def _model_field(field: Field) -> forms.Field:
    match field.kind:
        case "file":
            return forms.FileField(required=False, widget=UnfoldAdminFileFieldWidget(), help_text=field.description)
        case "text":
            return _text(required=False, help_text=field.description)
        case "json":
            return forms.JSONField(required=False, widget=UnfoldAdminTextareaWidget(), help_text=field.description)


class ModelForm(ServiceForm):
    """What every framework asks for, and below it the fields of each: those of the chosen one count."""

    name = _text()
    version = _text()
    framework = forms.ChoiceField(choices=framework_choices, widget=UnfoldAdminSelectWidget())

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for framework in frameworks().values():
            for field in own_fields(framework.definition).values():
                self.fields.setdefault(field.name, _model_field(field))

    def perform(self, actor: str) -> Model:
        data = self.cleaned_data
        framework = frameworks()[data["framework"]]
        given: dict[str, Any] = {name: data[name] for name in ("name", "version")}
        for field in own_fields(framework.definition).values():
            value = data[field.name]
            if value not in ("", None):
                given[field.name] = value.read() if field.kind == "file" else value
            elif field.required:
                raise DefinitionInvalid(field.name, "required")
        try:
            definition = msgspec.convert(given, framework.definition)
        except msgspec.ValidationError as error:
            told = field_error(str(error))
            raise DefinitionInvalid(told["field"], told["message"]) from error
        return register(definition, actor=actor)[0]


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
    groups = (
        ("What to compare", "", ("name", "endpoint", "strategy", "arms")),
        (
            "How a bandit chooses",
            "An A/B experiment leaves these as they are.",
            ("policy", "params", "floor", "burn_in", "context"),
        ),
        (
            "A canary, and guardrails",
            "Guardrails act on any strategy; a canary is also rolled back when the control is shown to be better.",
            ("bake_seconds", "guardrails"),
        ),
        (
            "What counts as success",
            "",
            ("metric", "kind", "direction", "minimum", "maximum", "default", "window_seconds", "pending"),
        ),
        (
            "When the winner becomes champion",
            "The evidence holds however often it is looked at: no fixed end has to be set beforehand. It asks for one decision a unit.",
            ("auto", "alpha", "min_rewards", "indifference"),
        ),
    )

    name = _text(help_text="Lower-case letters, digits, '.', '_' and '-', as `digits-november`.")
    endpoint = forms.ModelChoiceField(queryset=Endpoint.objects.all(), widget=UnfoldAdminSelectWidget())
    strategy = forms.ChoiceField(
        choices=[
            ("bandit", "Bandit: learns, and shifts traffic to the better arm"),
            ("ab", "A/B: a fixed, even split"),
            ("canary", "Canary: one challenger, more traffic step by step"),
            ("shadow", "Shadow: challengers see copies, the champion answers"),
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
        help_text=" ".join(policies.summary(name) for name in policies.names()),
    )
    params = forms.JSONField(
        label="Parameters of the policy",
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text='As JSON, where the policy has some: {"epsilon": 0.1}. With {"discount": 0.999} or {"sliding_window": 5000} every policy '
        "forgets, for worlds that drift.",
    )
    context = forms.JSONField(
        label="Features of requests",
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
        help_text='As JSON, for lin-ucb, lin-thompson and logistic-thompson: {"fields": [{"name": "age", "type": "number", "min": 0, '
        '"max": 120}, {"name": "country", "type": "category", "values": ["KR", "US"]}]}.',
    )
    floor = forms.FloatField(
        required=False,
        min_value=0,
        max_value=1,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}),
        help_text="The least share of traffic that every arm keeps, as 0.05 for 5 %. More of it decides sooner and earns less. "
        "Empty: 1 %, less from eleven arms on.",
    )
    burn_in = forms.IntegerField(
        label="Burn-in, in rewards",
        required=False,
        initial=100,
        min_value=0,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Until an arm has so many rewards it gets an even share.",
    )
    bake_seconds = forms.FloatField(
        label="Bake time of a canary's step, in seconds",
        required=False,
        initial=600,
        min_value=1,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}),
        help_text="The steps are 5, 25, 50 and 100 % of the units.",
    )
    guardrails = forms.JSONField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text='As JSON: [{"metric": "error_rate", "max": 0.02, "action": "rollback"}, {"metric": "latency_p99_ms", "max": 50, '
        '"action": "disable_arm"}]. Other metrics are those of your feedback.',
    )
    metric = _text(initial="reward", help_text="The name that feedback gives it.")
    kind = forms.ChoiceField(
        choices=[
            ("binary", "Binary: 0 or 1, as a click or a right answer"),
            ("continuous", "Continuous: a number, as revenue or seconds"),
            ("count", "Count: 0, 1, 2, ..."),
        ],
        widget=UnfoldAdminSelectWidget(),
    )
    direction = forms.ChoiceField(
        choices=[("maximize", "More is better"), ("minimize", "Less is better")], widget=UnfoldAdminSelectWidget()
    )
    minimum = forms.FloatField(
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}),
        help_text="Of a continuous reward. Without minimum and maximum the evidence can't be computed, and a person must promote.",
    )
    maximum = forms.FloatField(
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}),
        help_text="Of a continuous reward or a count.",
    )
    default = forms.FloatField(
        label="Reward of a decision without feedback",
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}),
        help_text="0 where silence means no, as with clicks. Empty: such decisions are not learned from.",
    )
    window_seconds = forms.FloatField(
        label="Attribution window, in seconds",
        initial=3600,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}),
        help_text="How long after a decision its reward counts. Evidence waits for it: a shorter one decides sooner.",
    )
    pending = forms.ChoiceField(
        label="While the window is open",
        required=False,
        choices=[
            ("ignore", "Wait until it has closed, where silence means something"),
            ("exposure", "Learn at once: open decisions count by the chance that feedback would have come by now"),
        ],
        widget=UnfoldAdminSelectWidget(),
        help_text="The second needs a reward of 0 for decisions without feedback. Evidence always waits for the window.",
    )
    auto = forms.TypedChoiceField(
        label="Promote automatically",
        required=False,
        choices=[
            ("", "Yes, unless the policy forgets or learns from features"),
            ("true", "Yes, as soon as the evidence holds"),
            ("false", "No, a person promotes"),
        ],
        coerce=lambda text: text == "true",
        empty_value="",
        widget=UnfoldAdminSelectWidget(),
        help_text="Where the best arm depends on the time or on the request, a promotion would take from those for whom another is better.",
    )
    alpha = forms.FloatField(
        label="Chance of a false promotion, at most",
        required=False,
        initial=0.05,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}),
    )
    min_rewards = forms.IntegerField(
        label="Matured rewards of every arm, at least",
        required=False,
        initial=100,
        min_value=0,
        widget=UnfoldAdminIntegerFieldWidget(),
    )
    indifference = forms.FloatField(
        label="Difference that does not matter",
        required=False,
        initial=0.0,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}),
        help_text="As a share of the reward's range: arms that are shown to be closer end the experiment without a winner. 0: never.",
    )

    def perform(self, actor: str) -> Model:
        try:
            document = msgspec.convert(self._document(), documents.Experiment)
        except msgspec.ValidationError as error:
            said, _, path = str(error).partition(" - at `$.")
            raise Invalid(path.rstrip("`") or "name", said) from error
        return create_experiment(document, actor=actor)

    def _document(self) -> dict[str, Any]:
        """What was filled in; what was left empty gets the document's own defaults."""
        data = self.cleaned_data
        body: dict[str, Any] = {
            "name": data["name"],
            "endpoint": data["endpoint"].name,
            "strategy": data["strategy"],
            "arms": [{"name": name, "model": arm.model} for name, arm in _named(list(data["arms"]))],
            "reward": self._filled(
                "metric", "kind", "direction", "minimum", "maximum", "default", "window_seconds", "pending"
            ),
            "promotion": self._filled("auto", "alpha", "min_rewards", "indifference"),
        }
        if data["strategy"] == "bandit":
            body["policy"] = self._filled("params", "floor", "burn_in") | {"name": data["policy"] or "thompson"}
        if data["strategy"] == "canary":
            body["canary"] = self._filled("bake_seconds")
        return body | self._filled("context", "guardrails")

    def _filled(self, *names: str) -> dict[str, Any]:
        return {name: value for name in names if (value := self.cleaned_data[name]) not in (None, "")}


def _named(versions: list[ModelVersion]) -> list[tuple[str, ModelVersion]]:
    """Names for arms: `v2` among versions of one model, else `model-2`. Oldest first."""
    one_model = len({version.name for version in versions}) == 1
    ordered = sorted(versions, key=lambda version: version.pk)
    return [
        ((f"v{arm.version}" if one_model else f"{arm.name}-{arm.version}")[:NAME_MAX_LENGTH], arm) for arm in ordered
    ]


class ReasonForm(forms.Form):
    """Why, for the audit trail."""

    reason = forms.CharField(
        label="Reason, for the audit trail",
        required=False,
        max_length=2000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
    )

    @classmethod
    def initial_of(cls, row: Any) -> dict[str, Any]:
        """What the form holds at first."""
        return {}


class ChampionForm(ReasonForm):
    """Another champion or deadline for an endpoint."""

    field_order = ("champion", "deadline_ms", "reason")
    champion = ModelChoice(queryset=ModelVersion.objects.all(), widget=UnfoldAdminSelectWidget())
    deadline_ms = forms.IntegerField(
        label="Deadline in ms", min_value=1, max_value=60_000, widget=UnfoldAdminIntegerFieldWidget()
    )

    @classmethod
    def initial_of(cls, row: Any) -> dict[str, Any]:
        return {"champion": row.champion_id, "deadline_ms": row.deadline_ms}


class PromoteForm(ReasonForm):
    """Which arm becomes champion."""

    field_order = ("arm", "reason")
    arm = forms.ChoiceField(label="Arm", widget=UnfoldAdminSelectWidget())
