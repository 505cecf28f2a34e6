"""What was set aside: shown as far as it can be read."""

import msgspec
from django.contrib import admin

from serving.models import QuarantinedEvent

from .pages import ReadOnlyAdmin

SHOWN_BYTES = 512


class QuarantinedEventAdmin(ReadOnlyAdmin[QuarantinedEvent]):
    list_display = ("at", "stream", "entry_id", "problem")
    search_fields = ("stream", "problem")
    fields = ("at", "stream", "entry_id", "problem", "content")
    readonly_fields = ("at", "content")

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
