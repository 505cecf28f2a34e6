"""The admin's forms: fields, and the one service that each calls."""

from datetime import timedelta
from typing import Any, ClassVar

import msgspec
from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Model
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from noregret.access.keys import LONGEST, SCOPES, create_key
from noregret.experiments.batches import LONGEST_WAIT_MS, MOST_ROWS
from noregret.experiments.caching import LONGEST_SECONDS, MOST_ENTRIES
from noregret.experiments.models import Endpoint
from noregret.registry.errors import DefinitionInvalid
from noregret.registry.frameworks import framework_choices, frameworks
from noregret.registry.frameworks.fields import Field, own_fields
from noregret.registry.jobs import register
from noregret.registry.models import ModelVersion
from noregret.rollout.api.endpoints import EndpointRequest
from noregret.rollout.endpoints import create_endpoint
from noregret.trail.reasons import LONGEST as LONGEST_REASON
from noregret.trail.reasons import says_nothing

from .document_form import DocumentForm
from .document_inputs import JSONText, Number, Whole
from .expectations import refused_field
from .pages import ServiceForm
from .suggested import models_suggested


def _text(**options: Any) -> forms.CharField:
    return forms.CharField(widget=UnfoldAdminTextInputWidget(), max_length=255, **options)


_SCOPES = {
    "predict": "predict: ask for predictions and decisions",
    "feedback": "feedback: send rewards",
    "manage": "manage: register models, run experiments",
    "edge": "edge: bundles, model files and events of devices; such a key may be public",
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
    days = Whole(
        required=False,
        min_value=1,
        max_value=LONGEST.days,
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


_LABELS = {"url": "URL"}


def _model_field(field: Field) -> forms.Field:
    match field.kind:
        case "file":
            return forms.FileField(required=False, widget=UnfoldAdminFileFieldWidget(), help_text=field.description)
        case "text" if field.choices:
            return forms.ChoiceField(
                choices=[("", "-"), *((choice, choice) for choice in field.choices)],
                required=False,
                widget=UnfoldAdminSelectWidget(),
                help_text=field.description,
            )
        case "text":
            label = _LABELS.get(field.name)
            return _text(required=False, help_text=field.description, label=label)
        case "json":
            widget = UnfoldAdminTextareaWidget(attrs={"rows": 3})
            return JSONText(required=False, widget=widget, help_text=field.description)


class ModelForm(ServiceForm):
    """What every framework asks for, and below it the fields of each: those of the chosen one
    count."""

    name = _text()
    version = _text()
    framework = forms.ChoiceField(choices=framework_choices, widget=UnfoldAdminSelectWidget())

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for framework in frameworks().values():
            for field in own_fields(framework.definition).values():
                shown = self.fields.setdefault(field.name, _model_field(field))
                if field.description not in shown.help_text:
                    shown.help_text = f"{shown.help_text} {field.description}"

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
            raise DefinitionInvalid(*refused_field(framework.definition, given, error)) from error
        return register(definition, actor=actor)[0]


class ModelChoice(forms.ModelChoiceField):  # type: ignore[type-arg]  # no generic at run time
    def label_from_instance(self, obj: Any) -> str:
        return str(obj.model)


class EndpointForm(DocumentForm):
    document = EndpointRequest
    suggestions: ClassVar = {"champion": models_suggested}

    def perform(self, actor: str) -> Model:
        request = self.made(EndpointRequest)
        return create_endpoint(**msgspec.structs.asdict(request), actor=actor)


class ReasonField(forms.CharField):
    """Why, for the audit trail: of what is sent something can be read."""

    def __init__(self, *, required: bool = True) -> None:
        super().__init__(
            label="Reason, for the audit trail",
            required=required,
            max_length=LONGEST_REASON,
            widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        )

    def validate(self, value: str) -> None:
        super().validate(value)
        if says_nothing(value):
            raise ValidationError(
                "Nothing in it can be read: say why" + ("." if self.required else ", or leave it empty.")
            )


class ReasonForm(forms.Form):
    """Why, for the audit trail."""

    reason: forms.Field = ReasonField(required=False)

    @classmethod
    def initial_of(cls, row: Any) -> dict[str, Any]:
        """What the form holds at first."""
        return {}


class CacheForm(ReasonForm):
    """What web processes keep of an endpoint's answers."""

    field_order = ("entries", "seconds", "reason")
    entries = Whole(
        label="Entries",
        required=False,
        min_value=1,
        max_value=MOST_ENTRIES,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="The most answers that a web process keeps. Empty: none are kept.",
    )
    seconds = Number(
        label="Seconds",
        required=False,
        min_value=0.001,
        max_value=LONGEST_SECONDS,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}),
        help_text="How long an answer is good for. Empty: those of models from files until there is no room, "
        "and those of remote models and Python callables are not kept.",
    )

    @classmethod
    def initial_of(cls, row: Any) -> dict[str, Any]:
        return dict(row.cache or {})


class BatchForm(ReasonForm):
    """How an endpoint's requests are computed together."""

    field_order = ("rows", "wait_ms", "reason")
    rows = Whole(
        label="Rows",
        required=False,
        min_value=2,
        max_value=MOST_ROWS,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="The most rows of a call. Empty: each request is a call of its own.",
    )
    wait_ms = Number(
        label="Wait in ms",
        required=False,
        min_value=0.0,
        max_value=LONGEST_WAIT_MS,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}),
        help_text="So long a call waits for others, where the one before it had some.",
    )

    @classmethod
    def initial_of(cls, row: Any) -> dict[str, Any]:
        return dict(row.batch or {})


class ForcedForm(ReasonForm):
    """Why; and, where the service objects, that it is wanted all the same."""

    seen = forms.BooleanField(required=False, label="I have seen this, and want it all the same")


class ChampionForm(ForcedForm):
    """Another champion or deadline for an endpoint."""

    field_order = ("champion", "deadline_ms", "reason", "seen")
    champion = ModelChoice(queryset=ModelVersion.objects.all(), widget=UnfoldAdminSelectWidget())
    deadline_ms = Whole(label="Deadline in ms", min_value=1, max_value=60_000, widget=UnfoldAdminIntegerFieldWidget())

    @classmethod
    def initial_of(cls, row: Any) -> dict[str, Any]:
        return {"champion": row.champion_id, "deadline_ms": row.deadline_ms}
