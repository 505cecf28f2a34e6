"""The guided form of an experiment: its steps, each with the parts of the document that it asks
for, and what is chosen among cards."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from django.db.models import Model
from django.forms.utils import ErrorDict

from bandits import policies
from noregret.experiments import document as documents
from noregret.experiments.errors import Invalid
from noregret.experiments.models import Experiment
from noregret.rollout.creation import Draft, create_experiment, drafted
from noregret.rollout.drafts import change_draft

from .document_form import Card, Cards, DocumentForm, ShownPart, head_of, without_numbers
from .suggested import endpoints_suggested, models_suggested


class Step(NamedTuple):
    """A page of the form. `members`: what of the document it asks for, by name."""

    name: str
    title: str
    lead: str
    members: tuple[str, ...] = ()


STEPS = (
    Step("strategy", "Strategy", "What is tried, where, and how carefully.", ("name", "endpoint", "strategy")),
    Step("arms", "Arms", "The model versions that are compared.", ("arms",)),
    Step("reward", "Reward", "What a good answer is, and how long feedback on it counts.", ("reward",)),
    Step(
        "careful",
        "How careful",
        "How traffic is shared while it is learned, and when that is enough to decide.",
        ("policy", "canary", "shadow", "apprentice", "context", "promotion"),
    ),
    Step("guardrails", "Guardrails", "Limits that stop it without anybody looking.", ("guardrails",)),
    Step("more", "Schedule", "When it starts and ends by itself, and what few need."),
    Step("review", "Review", "What will happen, in words, and the same as code."),
)
BY_NAME = {step.name: step for step in STEPS}
_STEP_OF = {member: step.name for step in STEPS for member in step.members}
_ADVANCED = ("edge_evidence", "edge_exclusions")

STRATEGIES = {
    "shadow": (
        "Shadow",
        "The champion answers everybody; challengers get a copy of the requests, in silence. Is a new model right, and fast enough?",
    ),
    "canary": (
        "Canary",
        "One challenger gets a little of the traffic, then more, step by step; limits bring it back. Does a release break anything?",
    ),
    "ab": (
        "A/B test",
        "Arms share the traffic in fixed parts until the evidence holds. How much better is it, exactly?",
    ),
    "bandit": (
        "Bandit",
        "It learns from rewards and gives more traffic to the better arm while it runs. Which is best, at the least cost?",
    ),
}
"""By strategy: its title and a sentence with the question that it answers."""
USUAL = {
    "thompson": "Earn while it learns",
    "top-two-thompson": "Decide soon",
    "uniform": "Split evenly",
}
"""The policies that most people choose among."""


def step_of(path: str, strategy: str) -> str:
    """The step that asks for what stands at this path of the document; a field that nobody placed
    is among the last."""
    member = path.partition(".")[0].partition("[")[0]
    if member == "context" and strategy != "bandit":
        return "more"
    return _STEP_OF.get(member, "more")


def has(path: str, strategy: str) -> bool:
    """Has the strategy what stands at this path? Without a strategy all may come."""
    at, only = without_numbers(path), ExperimentForm.only_for
    strategies = next((only[part] for part in only if at == part or at.startswith(f"{part}.")), None)
    return strategies is None or not strategy or strategy in strategies


def _policies() -> list[tuple[str, str]]:
    return [(name, name) for name in policies.names()]


class ExperimentForm(DocumentForm):
    """`draft`: the experiment that is changed; None: one is made. `notes`: what is known of a
    policy here, by its name."""

    document = documents.Experiment
    choices: ClassVar = {"policy.name": _policies}
    suggestions: ClassVar = {"endpoint": endpoints_suggested, "arms.model": models_suggested}
    only_for = documents.ONLY_FOR | {f"arms.{name}": only for name, only in documents.ARMS_ONLY_FOR.items()}
    open_at_first = ("policy", "canary", "shadow", "reward", "guardrails", "schedule")

    def __init__(self, data: Mapping[str, str], draft: Experiment | None = None, revision: int | None = None) -> None:
        super().__init__(data)
        self.draft = draft
        self.revision = revision
        self.notes: dict[str, str] = {}
        self.fields["policy.name"].label = "How traffic is shared"
        for name in ("name", "endpoint") if draft is not None else ():
            self.fields[name].widget.attrs["readonly"] = True
            self.fields[name].help_text = "A draft keeps it: copy the experiment for another."

    def be_quiet(self) -> None:
        """Show what was typed, and nothing of what is wrong with it."""
        self._errors = ErrorDict()

    def draft_rows(self) -> Draft | None:
        """The rows that it would make; None where something is wrong, which is then told."""
        if not self.is_valid():
            return None
        try:
            return drafted(self._document_made())
        except Invalid as error:
            self._refused(error.field, error.message)
            return None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        name = self.body.get("name")
        if self.draft is None and name and Experiment.objects.filter(name=name).exists():
            self.add_error("name", f"There is an experiment {name} already.")
        return cleaned

    def _document_made(self) -> documents.Experiment:
        return self.made(documents.Experiment)

    def perform(self, actor: str) -> Model:
        document = self._document_made()
        if self.draft is None:
            return create_experiment(document, actor=actor)
        return change_draft(self.draft, document, actor=actor, revision=self.revision)

    def wrong_steps(self) -> list[str]:
        """The steps with something wrong, in their order."""
        wrong = {step_of(path, self.strategy) for path in self.errors if path != "__all__"}
        return [step.name for step in STEPS if step.name in wrong]

    def shown_step(self, name: str) -> list[ShownPart]:
        """A step's parts: values on their own first, then each part of the document."""
        members = [(member, at) for member, at in self.members_of(self.root, "") if step_of(at, self.strategy) == name]
        order = BY_NAME[name].members
        members.sort(key=lambda found: order.index(found[1]) if found[1] in order else len(order))
        shown = self._shown_all(members, self)
        plain, advanced, parts = [], [], []
        for (_, at), each in zip(members, shown, strict=True):
            if isinstance(each, ShownPart):
                parts.append(each)
            elif at in ("sticky", "holdout") or name != "more":
                plain.append(each)
            else:
                advanced.append((at, each))
        head = [head_of(plain)] if plain else []
        found = [*parts[:1], *head, *parts[1:]] if name == "careful" else [*head, *parts]
        if advanced:
            told = any(at in self.errors or self._is_typed(at) for at, _ in advanced)
            values = [each for _, each in advanced]
            found.append(
                ShownPart(
                    "advanced", "Advanced", "What few need.", required=False, is_open=told, errors=[], members=values
                )
            )
        return found

    def _is_typed(self, path: str) -> bool:
        return bool(str(self.data.get(path) or "").strip())

    def cards_at(self, path: str) -> list[Cards]:
        match path:
            case "strategy":
                return [Cards("", [self._strategy_card(value) for value in documents.Strategy.__args__])]  # type: ignore[attr-defined]  # a Literal has them
            case "policy.name":
                return self._policy_cards()
        return []

    def _strategy_card(self, value: str) -> Card:
        title, text = STRATEGIES.get(value, (value, ""))
        return Card(value, title, text, f"noregret/pictures/{value}.html" if value in STRATEGIES else "")

    def _policy_cards(self) -> list[Cards]:
        chosen = self.data.get("policy.name") or "thompson"
        by_request = set(policies.contextual_names())
        others = [name for name in policies.names() if name not in USUAL and name not in by_request]
        groups = [("", list(USUAL)), ("Choose by the request", sorted(by_request)), ("Other policies", others)]
        return [
            Cards(title, [self._policy_card(name) for name in names], not title or chosen in names)
            for title, names in groups
        ]

    def _policy_card(self, name: str) -> Card:
        text = policies.summary(name).partition(": ")[2] or policies.summary(name)
        title = f"{USUAL[name]} ({name})" if name in USUAL else name
        return Card(name, title, text[:1].upper() + text[1:], note=self.notes.get(name, ""))
