"""A form that is made from a document's type, and gives the document that was filled in.

The name of an input is its value's path in the document, as the API's errors have it:
`guardrails[0].max`. So an error of a type, of `document_check.check` or of a service stands beside
what it speaks of. What is empty is left out of the document, and gets its default there.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import msgspec
from django import forms
from django.core.exceptions import NON_FIELD_ERRORS

from noregret.experiments.errors import Invalid
from serving.api.bodies import field_error

from .document_inputs import input_for, with_code
from .document_parts import Leaf, Member, Part, Rows, part_of
from .expectations import refusal
from .pages import ServiceForm

D = TypeVar("D", bound=msgspec.Struct)

EMPTY_ROWS = 3
"""So many rows are offered beyond those that are filled in. A script adds rows instead."""

_INDEX = re.compile(r"\[\w+\]")
_PLACE = re.compile(r"(\w+)(?:\[(\d+)\])?")
_ANY = "__row__"
"""The number of the row that a script copies."""


@dataclass(frozen=True, slots=True)
class ShownLeaf:
    """An input of the page."""

    kind: ClassVar[str] = "leaf"
    field: forms.BoundField
    required: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One choice of a value, with what speaks for it. `picture`: a template's name; nothing for
    none. `note`: what is known of it here."""

    value: str
    title: str
    text: str
    picture: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cards:
    """Choices under one title; without a title they are shown at once."""

    title: str
    cards: list[Card]
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class ShownCards:
    """A value that is chosen among cards. `chosen`: what stands chosen."""

    kind: ClassVar[str] = "cards"
    field: forms.BoundField
    required: bool
    chosen: str
    groups: list[Cards]


@dataclass(frozen=True, slots=True)
class ShownPart:
    """A part of the page. `rows` and `blank`, the row that a script copies, are those of a list."""

    kind: ClassVar[str] = "part"
    path: str
    title: str
    explanation: str
    required: bool
    is_open: bool
    errors: list[str]
    members: "Sequence[Shown]" = ()
    rows: "list[ShownPart]" = field(default_factory=list)
    blank: "ShownPart | None" = None
    limit: int | None = None


Shown = ShownLeaf | ShownCards | ShownPart


class DocumentForm(ServiceForm):
    """`document` is the type. The mappings are by paths without numbers, as `arms.model`.

    `choices`: what a text is chosen from. `suggestions`: what is suggested for a text.
    `only_for`: the strategies that have a part or a value; all of them where it is not named. What
    the chosen one has not is neither shown nor read: it may have been typed for another.
    """

    document: ClassVar[type[msgspec.Struct]]
    choices: ClassVar[Mapping[str, Callable[[], Iterable[tuple[str, str]]]]] = {}
    suggestions: ClassVar[Mapping[str, Callable[[], Iterable[str]]]] = {}
    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    open_at_first: ClassVar[tuple[str, ...]] = ()
    body_template = "noregret/document.html"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.root = part_of(self.document)
        self.body: dict[str, Any] = {}
        self._numbers: dict[str, list[int]] = {}
        """Of a list, at its path: the numbers of the rows that are shown."""
        self._filled_rows: dict[str, list[int]] = {}
        """Of a list, at its path: the numbers of the rows that the document has, in its order."""
        self._blank = forms.Form()
        self._choices = {path: list(made()) for path, made in self.choices.items()}
        self._add(self.root, "", self.fields)

    @property
    def strategy(self) -> str:
        """The chosen one, whether or not there is one of this name."""
        return str(self.data.get("strategy") or "")

    def members_of(self, part: Part, path: str) -> Iterator[tuple[Member, str]]:
        """Those that the chosen strategy has, each with its path."""
        for member in part.members:
            at = _below(path, member.name)
            strategies = self.only_for.get(without_numbers(at))
            if strategies is None or not self.strategy or self.strategy in strategies:
                yield member, at

    def cards_at(self, path: str) -> list[Cards]:
        """What is chosen from at a path in place of its input; nothing for an input."""
        return []

    def _add(self, part: Part, path: str, fields: dict[str, forms.Field]) -> None:
        for member in part.members:
            at = _below(path, member.name)
            match member:
                case Leaf():
                    fields[at] = self._input(member, at)
                case Part():
                    self._add(member, at, fields)
                case Rows():
                    self._numbers[at] = self._rows_of(member, at)
                    for number in self._numbers[at]:
                        self._add(member.item, f"{at}[{number}]", fields)
                    self._add(member.item, f"{at}[{_ANY}]", self._blank.fields)

    def _input(self, leaf: Leaf, path: str) -> forms.Field:
        key = without_numbers(path)
        datalist = f"suggested-{key}" if key in self.suggestions else None
        return input_for(leaf, choices=self._choices.get(key), datalist=datalist)

    def _rows_of(self, rows: Rows, path: str) -> list[int]:
        """The rows with something in them, and empty ones after them.

        At most one more than the document may have: that is refused, and shown.
        """
        named = re.compile(rf"{re.escape(path)}\[(\d{{1,4}})\]\.")
        sent = {int(found[1]) for name, value in self.data.items() if (found := named.match(name)) and value.strip()}
        limit = None if rows.limit is None else rows.limit + 1
        numbers = sorted(sent)[:limit]
        after = numbers[-1] + 1 if numbers else 0
        room = EMPTY_ROWS if rows.limit is None else max(0, min(EMPTY_ROWS, rows.limit - len(numbers)))
        return [*numbers, *range(after, after + room)]

    def clean(self) -> dict[str, Any]:
        self.body = self._document(self.root, "")
        return self.cleaned_data

    def made(self, document: type[D]) -> D:
        """The document that was filled in. Raises Invalid."""
        try:
            return msgspec.convert(self.body, document)
        except msgspec.ValidationError as error:
            told = field_error(str(error))
            raise Invalid(told["field"], told["message"]) from error

    def _document(self, part: Part, path: str) -> dict[str, Any]:
        """What is filled in of a part; an error beside whatever of it is wrong or missing."""
        document: dict[str, Any] = {}
        for member, at in self.members_of(part, path):
            if not self._is_filled(member, at):
                if member.required:
                    self._tell(at, "at least one is required" if isinstance(member, Rows) else "required")
                continue
            match member:
                case Leaf():
                    if at in self.cleaned_data:  # else Django has told why not
                        self._check(member, at)
                        document[member.name] = self.cleaned_data.get(at)
                case Part():
                    document[member.name] = self._document(member, at)
                case Rows():
                    filled = [number for number in self._numbers[at] if self._is_filled(member.item, f"{at}[{number}]")]
                    self._filled_rows[at] = filled
                    if member.limit is not None and len(filled) > member.limit:
                        self._tell(at, f"at most {member.limit} were expected: remove one or more")
                    document[member.name] = [self._document(member.item, f"{at}[{number}]") for number in filled]
        return document

    def _is_filled(self, member: Member, path: str) -> bool:
        match member:
            case Leaf():
                return bool(str(self[path].data or "").strip())
            case Part():
                return any(self._is_filled(below, at) for below, at in self.members_of(member, path))
            case Rows():
                return any(self._is_filled(member.item, f"{path}[{number}]") for number in self._numbers[path])

    def _check(self, leaf: Leaf, path: str) -> None:
        try:
            msgspec.convert(self.cleaned_data[path], leaf.annotation)
        except msgspec.ValidationError as error:
            told = field_error(str(error))
            within = told["field"] and f"{'' if told['field'].startswith('[') else '.'}{told['field']}"
            self._tell(path + within, refusal(leaf, self.cleaned_data[path], told["message"]))

    def _refused(self, path: str, message: str) -> None:
        for rows, numbers in self._filled_rows.items():
            path = _renumbered(path, rows, dict(enumerate(numbers)))
        self._tell(path, message)

    def _tell(self, path: str, message: str) -> None:
        """An error at a path of this page, or at what is around it: a part, in the end the page."""
        parts = set(self._paths(self.root, ""))
        at, below = path, ""
        while at and at not in self.fields and at not in parts:
            at = re.sub(r"(^|\.|\[)[^.\[]*$", "", at)
            below = path[len(at) :].lstrip(".")
        line = re.fullmatch(r"\[(\d+)\]", below)
        said = f"Line {int(line[1]) + 1}: {message}" if line else f"{below}: {message}" if below else message
        if not at or at in self.fields:
            self.add_error(at or None, said)
        else:
            self.errors.setdefault(at, self.error_class()).append(said)

    def _paths(self, part: Part, path: str) -> Iterator[str]:
        for member, at in self.members_of(part, path):
            match member:
                case Part():
                    yield at
                    yield from self._paths(member, at)
                case Rows():
                    yield at
                    for number in self._numbers[at]:
                        yield f"{at}[{number}]"
                        yield from self._paths(member.item, f"{at}[{number}]")

    def filled_rows(self, path: str) -> list[int]:
        """The numbers on the page of a list's rows that its document has, in its order."""
        return self._filled_rows.get(path, [])

    def shown_errors(self) -> list[tuple[str, str, str]]:
        """Everything that is wrong: the id of where it stands, its path and the message."""
        shown: list[tuple[str, str, str]] = []
        for path in self.errors:
            if path == NON_FIELD_ERRORS:
                continue
            anchor = self[path].id_for_label if path in self.fields else f"part_{path}"
            shown += [(anchor, path, str(message)) for message in self.errors[path]]
        return shown

    def told_errors(self) -> list[tuple[str, str, str]]:
        """The same with what each is called on the page in place of its path."""
        return [(anchor, self.label_of(path), message) for anchor, path, message in self.shown_errors()]

    def label_of(self, path: str) -> str:
        """What a path is called on the page: 'Arm 1, model'."""
        said: list[str] = []
        members: Sequence[Member] = self.root.members
        at = ""
        for name, number in _PLACE.findall(path):
            at = _below(at, name)
            member = next((each for each in members if each.name == name), None)
            match member:
                case Rows() if number:
                    shown = self._numbers.get(at, [])
                    place = shown.index(int(number)) if int(number) in shown else int(number)
                    said.append(f"{member.item.name} {place + 1}")
                    at, members = f"{at}[{number}]", member.item.members
                case Part():
                    said.append(_title(name))
                    members = member.members
                case _:
                    said.append(str(self.fields[at].label) if at in self.fields else _title(name))
        return ", ".join(each if i == 0 else each[:1].lower() + each[1:] for i, each in enumerate(said))

    def shown_parts(self) -> list[ShownPart]:
        """The page's parts: the document's own values first, then each of its parts."""
        shown = self._shown(self.root, "", self)
        values = [member for member in shown if not isinstance(member, ShownPart)]
        return [head_of(values), *(member for member in shown if isinstance(member, ShownPart))]

    def shown_suggestions(self) -> list[tuple[str, list[str]]]:
        """By id, what is suggested."""
        return [(f"suggested-{path}", list(made())) for path, made in self.suggestions.items()]

    def _shown_leaf(self, leaf: Leaf, path: str, form: forms.Form) -> ShownLeaf | ShownCards:
        groups = self.cards_at(path)
        if not groups:
            return ShownLeaf(form[path], leaf.required)
        chosen = str(form[path].value() or "") or ("" if leaf.required else str(leaf.default))
        return ShownCards(form[path], leaf.required, chosen, groups)

    def _shown(self, part: Part, path: str, form: forms.Form) -> list[Shown]:
        return self._shown_all(list(self.members_of(part, path)), form)

    def _shown_all(self, members: Iterable[tuple[Member, str]], form: forms.Form) -> list[Shown]:
        """One each."""
        shown: list[Shown] = []
        for member, at in members:
            match member:
                case Leaf():
                    shown.append(self._shown_leaf(member, at, form))
                case Part():
                    shown.append(self._shown_part(member, at, _title(member.name), form))
                case Rows():
                    shown.append(self._shown_rows(member, at))
        return shown

    def _shown_part(self, part: Part, path: str, title: str, form: forms.Form) -> ShownPart:
        return ShownPart(
            path=path,
            title=title,
            explanation=with_code(part.explanation),
            required=part.required,
            is_open=self._is_open(part, path),
            errors=self._errors_at(path),
            members=self._shown(part, path, form),
        )

    def _shown_rows(self, rows: Rows, path: str) -> ShownPart:
        item = rows.item
        return ShownPart(
            path=path,
            title=_title(rows.name),
            explanation=with_code(rows.explanation),
            required=rows.required,
            is_open=self._is_open(rows, path),
            errors=self._errors_at(path),
            rows=[self._shown_part(item, f"{path}[{number}]", item.name, self) for number in self._numbers[path]],
            blank=self._shown_part(item, f"{path}[{_ANY}]", item.name, self._blank),
            limit=rows.limit,
        )

    def _errors_at(self, path: str) -> list[str]:
        return [str(error) for error in self.errors.get(path, [])]

    def _is_open(self, member: Part | Rows, path: str) -> bool:
        # What is nested opens with what is around it.
        if member.required or "." in path or path in self.open_at_first:
            return True
        return any(name == path or name.startswith((f"{path}.", f"{path}[")) for name in self.errors) or (
            self.is_bound and _ANY not in path and self._is_filled(member, path)
        )


def without_numbers(path: str) -> str:
    """`arms.model` of `arms[3].model`."""
    return _INDEX.sub("", path)


def head_of(members: Sequence[Shown]) -> ShownPart:
    """Values without a part around them."""
    return ShownPart("", "", "", required=True, is_open=True, errors=[], members=members)


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _renumbered(path: str, rows: str, numbers: Mapping[int, int]) -> str:
    """Empty rows may lie between the others: the page's row 3 may be the document's row 0."""
    found = re.match(rf"{re.escape(rows)}\[(\d+)\]", path)
    if found is None or int(found[1]) not in numbers:
        return path
    return f"{rows}[{numbers[int(found[1])]}]{path[found.end() :]}"
