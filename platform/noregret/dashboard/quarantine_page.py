"""What was set aside: shown as far as it can be read, put back, or thrown away."""

from typing import Any

import msgspec
from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpResponseRedirect
from unfold.widgets import UnfoldBooleanWidget

from noregret.rollout.quarantined import AT_ONCE, alike, discard, endpoint_of, replay
from serving.models import QuarantinedEvent

from .forms import ReasonField, ReasonForm
from .row_actions import ActionsAdmin, RowAction
from .verdicts.told import counted

SHOWN_BYTES = 512


class ReplayForm(ReasonForm):
    """Which of what is alike."""

    field_order = ("all_alike", "reason")
    all_alike = forms.BooleanField(
        label="All that are alike",
        required=False,
        widget=UnfoldBooleanWidget(),
        help_text=f"With the same problem, of the same stream: up to {AT_ONCE:,} at once.",
    )


class DiscardForm(ReplayForm):
    """As ReplayForm; what is thrown away needs a reason."""

    reason = ReasonField()


def _replay(row: QuarantinedEvent, data: dict[str, Any], actor: str) -> str:
    count = replay(row, all_alike=data["all_alike"], actor=actor, reason=data["reason"])
    return f"{counted(count, 'event was', 'events were')} put back: what still can't be read comes back here within moments."


def _discard(row: QuarantinedEvent, data: dict[str, Any], actor: str) -> str:
    count = discard(row, all_alike=data["all_alike"], actor=actor, reason=data["reason"])
    return f"{counted(count, 'event was', 'events were')} discarded."


class QuarantinedEventAdmin(ActionsAdmin):
    list_display = ("at", "stream", "entry", "problem")
    search_fields = ("stream", "problem")
    fields = ("at", "stream", "entry", "problem", "others", "content")
    readonly_fields = ("at", "entry", "others", "content")
    row_actions = (
        RowAction(
            "replay",
            "Replay",
            lambda row: (
                "The event goes back into its stream and is read again. A decision enters the ledger once, however often it comes; "
                "one whose time is closed is counted, and weighs nothing in the evidence."
            ),
            _replay,
            ReplayForm,
            offered=lambda row: endpoint_of(row) is not None,
        ),
        RowAction(
            "discard",
            "Discard",
            lambda row: (
                "The event is thrown away for good."
                if endpoint_of(row) is not None
                else "The note is thrown away for good. A row of the ledger that it tells of stays there, and is not learned from."
            ),
            _discard,
            DiscardForm,
        ),
    )

    def to_row(self, row: Model) -> HttpResponseRedirect:
        """What was taken up is here no more."""
        is_there = QuarantinedEvent.objects.filter(pk=row.pk).exists()
        return HttpResponseRedirect(self.row_url(row) if is_there else self.list_url())

    @admin.display(description="entry ID", ordering="entry_id")
    def entry(self, row: QuarantinedEvent) -> str:
        return str(row.entry_id)

    @admin.display(description="alike")
    def others(self, row: QuarantinedEvent) -> str:
        count = alike(row).count() - 1
        return (
            "no other" if not count else f"{count:,} other{'' if count == 1 else 's'} of this stream with this problem"
        )

    @admin.display(description="content")
    def content(self, row: QuarantinedEvent) -> str:
        """What came, as far as it can be shown: decoded where it is MessagePack, and as bytes."""
        body = bytes(row.body)
        shown = body[:SHOWN_BYTES].hex(" ") + (" …" if len(body) > SHOWN_BYTES else "")
        try:
            read = f"{msgspec.msgpack.decode(body)!r}"[: 2 * SHOWN_BYTES]
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            read = f"no MessagePack: {error}"
        return f"{len(body):,} bytes. {read} ({shown})"
