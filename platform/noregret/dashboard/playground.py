"""A request on an endpoint, made from the admin: a form from its champion's signature, the decision
that came of it with the reason for it, and the same call as code.

It is a real decision, made by the hot path of the process that answers and recorded like any other.
Whoever asks says whether it may teach; without a word it does not (`activate: false`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from django import forms
from django.db import transaction
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from noregret.experiments.models import Endpoint, Experiment
from noregret.registry.models import ModelVersion
from noregret.trail import audit
from serving.api import face
from serving.deciding import Decision
from serving.ledger.events import DecisionEvent
from serving.live import LiveEndpoint
from serving.problems import Problem
from serving.process import Process, process
from serving.recording import append
from serving.tokens import new_id

from .expectations import plain_number

MOST_FIELDS = 30
"""A row with more columns is one text of JSON."""
_ROW, _CONTEXT = "row", "context"


class _Column(NamedTuple):
    """A column of the row: its name in the form and in the request (None: rows are lists)."""

    label: str
    name: str | None
    type: str
    nullable: bool
    example: Any


def sample_row(signature: dict[str, Any]) -> Any:
    """What the form holds at first: a row of the sample that came with the model. Of a row that was
    made up at registration, where answers change, the texts alone: its numbers look like no
    request."""
    rows = signature.get("example_rows")
    if not rows:
        return [_PLAIN["number"]] * (signature.get("features") or 1)
    return rows[0] if signature.get("sampled") else _with_plain_numbers(rows[0])


def _with_plain_numbers(row: Any) -> Any:
    if isinstance(row, dict):
        return {name: _plain_number(value) for name, value in row.items()}
    return [_plain_number(value) for value in row]


def _plain_number(value: Any) -> Any:
    return (
        value
        if value is None or isinstance(value, bool | str)
        else _PLAIN["integer" if isinstance(value, int) else "number"]
    )


def _origin(champion: ModelVersion) -> str:
    """Where the row comes from."""
    if champion.signature.get("sampled"):
        return f"The row is the first of the sample that came with {champion.model}."
    return (
        f"It is not known what rows of {champion.model} look like, for no sample came with it: each number is 1, and each text one "
        "that it takes. Put in what a request of yours would hold."
    )


def columns_of(signature: dict[str, Any]) -> list[_Column] | None:
    """The columns that a signature tells; None where a row is of no known width, or a wide one."""
    example = sample_row(signature)
    columns = signature.get("columns")
    if columns is not None:
        known = [(column["name"], column["name"], column["type"], column["nullable"]) for column in columns]
    else:
        names = signature.get("feature_names")
        count = signature.get("features") or 0
        known = [
            (names[i] if names else f"Feature {i + 1}", names[i] if names else None, "number", False)
            for i in range(count)
        ]
    if not known or len(known) > MOST_FIELDS:
        return None
    return [_Column(*column, _of_example(example, i, column[0])) for i, column in enumerate(known)]


def _of_example(example: Any, place: int, name: str) -> Any:
    if isinstance(example, dict):
        return example.get(name)
    return example[place] if place < len(example) else None


def _shown(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()


class TryForm(forms.Form):
    """What a request on an endpoint may hold, with a sample filled in; `origin` says where that is
    from. `call` is `predict`, or `decide` where the endpoint hands on payloads."""

    def __init__(self, endpoint: Endpoint, context: Sequence[Any], data: Any = None) -> None:
        super().__init__(data, use_required_attribute=False)
        champion = endpoint.champion
        self.call = "decide" if champion.framework == "static" else "predict"
        self._columns = columns_of(champion.signature) if self.call == "predict" else []
        self.origin = _origin(champion) if self.call == "predict" else ""
        if self.call == "predict":
            self._add_row(champion.signature)
        self._context = {f"{_CONTEXT}-{i}": field for i, field in enumerate(context)}
        for key, field in self._context.items():
            self.fields[key] = _context_field(field)
        self.fields["unit"] = forms.CharField(
            required=False,
            max_length=256,
            widget=UnfoldAdminTextInputWidget(),
            help_text="Whom it is for. The same unit gets the same arm where units keep theirs.",
        )
        self.fields["activate"] = forms.BooleanField(
            required=False,
            label="Let it teach",
            widget=UnfoldBooleanWidget(),
            help_text="Ticked: it counts like a caller's, silence with its default reward too. Not ticked: it is recorded and nothing is "
            "learned of it, unless its id is activated.",
        )

    def _add_row(self, signature: dict[str, Any]) -> None:
        if self._columns is None:
            self.fields[_ROW] = forms.CharField(
                label="Row",
                initial=_shown(sample_row(signature)),
                widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "spellcheck": "false"}),
                help_text="JSON: a list of values, or an object by column.",
            )
            return
        for i, column in enumerate(self._columns):
            self.fields[f"{_ROW}-{i}"] = _column_field(column)

    def body(self) -> dict[str, Any]:
        """The request as it is sent. What is wrong with a value the hot path says."""
        data = self.cleaned_data
        body: dict[str, Any] = {}
        if self.call == "predict":
            body["inputs"] = [self._row(data)]
        context = {field.name: _typed(data[key], field.type) for key, field in self._context.items() if data[key] != ""}
        if context:
            body["context"] = context
        if data["unit"]:
            body["unit"] = data["unit"]
        if not data["activate"]:
            body["activate"] = False
        return body

    def _row(self, data: dict[str, Any]) -> Any:
        if self._columns is None:
            return _json(data[_ROW])
        values = [_typed(data[f"{_ROW}-{i}"], column.type) for i, column in enumerate(self._columns)]
        if all(column.name is not None for column in self._columns):
            return {column.name: value for column, value in zip(self._columns, values, strict=True)}
        return values

    def refuse(self, problem: Problem) -> None:
        """Put what the hot path refused where its field is."""
        if not problem.errors:
            self.add_error(None, problem.detail)
        for error in problem.errors:
            field = self._field_of(error["field"])
            if field is None:
                self.add_error(None, f"{error['field']}: {error['message']}")
            else:
                self.add_error(field, self._in_words(field, error["message"]))

    def _in_words(self, field: str, message: str) -> str:
        """What was expected of a column, for who typed it; types are the hot path's words."""
        place = field.removeprefix(f"{_ROW}-")
        if not message.startswith("expected `") or not place.isdecimal() or self._columns is None:
            return message
        return _EXPECTED.get(self._columns[int(place)].type, message)

    def _field_of(self, path: str) -> str | None:
        for i, column in enumerate(self._columns or ()):
            places = (f"inputs[0][{i}]", f"inputs[0].{column.name}", f"inputs[0][{column.name}]")
            if path in places:
                return f"{_ROW}-{i}"
        for key, field in self._context.items():
            if path == f"context.{field.name}":
                return key
        return path if path in self.fields else None


def _column_field(column: _Column) -> forms.Field:
    help_text = f"{column.type}{', may be empty' if column.nullable else ''}"
    if column.type == "boolean":
        choices = [*([("", "not known")] if column.nullable else []), ("true", "true"), ("false", "false")]
        return forms.ChoiceField(
            label=column.label,
            choices=choices,
            required=False,
            initial=_shown(column.example),
            widget=UnfoldAdminSelectWidget(),
            help_text=help_text,
        )
    example = column.example if column.example is not None or column.nullable else _PLAIN[column.type]
    return forms.CharField(
        label=column.label,
        required=False,
        strip=column.type != "string",
        initial=_shown(example),
        widget=UnfoldAdminTextInputWidget(attrs={} if column.type == "string" else {"inputmode": "decimal"}),
        help_text=help_text,
    )


_PLAIN: dict[str, Any] = {"number": 1.0, "integer": 1, "string": "text"}
"""Where nothing is known."""


def _context_field(field: Any) -> forms.Field:
    label = f"Context: {field.name}"
    if field.type == "category":
        choices = [("", "not told"), *((value, value) for value in field.values)]
        return forms.ChoiceField(label=label, choices=choices, required=False, widget=UnfoldAdminSelectWidget())
    told = (
        f"{field.type} from {field.min:g} to {field.max:g}" if field.min is not None and field.max is not None else ""
    )
    return forms.CharField(label=label, required=False, widget=UnfoldAdminTextInputWidget(), help_text=told)


def _json(text: str) -> Any:
    """As JSON, or as the text that it is: the hot path then says what was expected."""
    try:
        return msgspec.json.decode(text.encode("utf-8", "replace"))
    except msgspec.DecodeError:
        return text


_EXPECTED = {
    "number": "a number was expected, as 0.5",
    "integer": "a whole number was expected, as 3",
    "boolean": "true or false was expected",
    "string": "a text was expected",
}


def _typed(text: str, kind: str) -> Any:
    if kind in ("string", "category"):
        return text
    if text == "":
        return None
    try:
        return _json(plain_number(text, "") if kind == "number" else text)
    except forms.ValidationError:  # the hot path says what was expected
        return _json(text)


@dataclass(slots=True)
class _Remembering:
    """Keeps a decision as the hot path does, and the event for the page to tell of."""

    process: Process
    live: LiveEndpoint
    decision_id: bytes
    event: DecisionEvent | None = None

    def keep(self, event: DecisionEvent) -> bool:
        self.event = event
        return append(self.process, self.live, event)


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a request. `shares`: each arm with its probability, empty where none was drawn;
    `times` in milliseconds by part."""

    answer: str
    decision_id: str
    arm: str
    model: str
    learnable: str
    why: str
    shares: list[tuple[str, float, bool]]
    times: list[tuple[str, float]]


class NotServed(Exception):
    """This web process does not serve the endpoint yet."""


def decide(endpoint: Endpoint, call: str, body: dict[str, Any], *, actor: str) -> Tried:
    """Make the decision, and note in the audit trail who made it. Raises Problem 400 or 503, and
    NotServed."""
    parts = process()
    live = parts.store.endpoint(endpoint.name)
    if live is None:
        raise NotServed(endpoint.name)
    keeper = _Remembering(parts, live, new_id())
    encoded = msgspec.json.encode(body)
    document: Any
    if call == "predict":
        document, decision = face.predict(parts, live, face.read_predict(live, encoded), keeper)
    else:
        document, decision = face.decide_only(parts, live, encoded, keeper)
    with transaction.atomic():
        audit.record(
            actor=actor,
            action="endpoint.tried",
            endpoint=endpoint.name,
            experiment=decision.experiment or "",
            model=decision.model,
            details={"decision_id": decision.decision_id, "arm": decision.arm, "teaches": body.get("activate", True)},
        )
    return Tried(
        answer=msgspec.json.format(msgspec.json.encode(document), indent=2).decode(),
        decision_id=decision.decision_id,
        arm=decision.arm or "",
        model=decision.model,
        learnable=_learnable(decision, keeper.event, body),
        why=why(live, decision, keeper.event, body),
        shares=_shares(live, decision, keeper.event),
        times=[
            ("routing", 1000.0 * decision.route_seconds),
            ("the model", 1000.0 * decision.predict_seconds),
            ("recording", 1000.0 * decision.record_seconds),
        ],
    )


def _learnable(decision: Decision, event: DecisionEvent | None, body: dict[str, Any]) -> str:
    if event is None:
        return "It was not recorded: the endpoint records a share of its decisions, or none."
    if decision.fallback_reason is not None:
        return "It was recorded as a failure of the arm, and takes no reward."
    if not decision.learnable:
        return "It could not be recorded: streams and disk took nothing more."
    if body.get("activate", True):
        return "It was recorded and takes a reward, like any other decision."
    return "It was recorded, and nothing is learned of it unless its id is activated."


def why(live: LiveEndpoint, decision: Decision, event: DecisionEvent | None, body: dict[str, Any]) -> str:
    """Why this arm, in a sentence."""
    if decision.experiment is None:
        return f"No experiment runs on {decision.endpoint}: the champion, {decision.model}, answers every request."
    names = {seat.arm_id: seat.arm for seat in live.seats}
    if event is None:
        return "No arm was left for this request: the champion answered."
    chosen = names.get(event.arm_id) or decision.model
    share = f"{event.propensity:.1%}"
    if decision.fallback_reason is not None:
        return f"{chosen} was chosen with probability {share} and did not answer ({decision.fallback_reason}): the champion did."
    if event.holdout:
        return f"The unit is held out: it gets the control, {chosen}, whatever is learned."
    if event.proposed_arm_id is not None:
        proposed = names.get(event.proposed_arm_id)
        return f"The policy is an apprentice: it would have chosen {proposed}, and the control, {chosen}, serves."
    if decision.strategy == Experiment.Strategy.SHADOW:
        return f"A shadow: the champion, {chosen}, answers, and challengers get copies."
    whom = f"the unit {body['unit']}" if "unit" in body else "a request without a unit"
    if live.is_sticky and "unit" in body:
        return (
            f"Units keep their arms here, and {whom} has {chosen}; it had a probability of {share} when it was drawn."
        )
    if decision.strategy in (Experiment.Strategy.CANARY, Experiment.Strategy.AB):
        return f"{chosen} gets {share} of the traffic, and {whom} falls into that part."
    by = " for this context" if live.schema is not None else ""
    return f"The policy gives {chosen} {share}{by} at version {decision.policy_version}, and the draw for {whom} fell on it."


def _shares(live: LiveEndpoint, decision: Decision, event: DecisionEvent | None) -> list[tuple[str, float, bool]]:
    if event is None or decision.experiment is None:
        return []
    pairs = zip(live.seats, event.propensities, strict=False)
    return [(seat.arm or "champion", share, seat.arm_id == event.arm_id) for seat, share in pairs]


def context_fields(endpoint: Endpoint) -> Sequence[Any]:
    """The features that the experiment which runs has declared."""
    running = Experiment.objects.filter(endpoint=endpoint, status=Experiment.Status.RUNNING).first()
    return () if running is None else running.context_.fields
