"""The page of an API key."""

from typing import Any, cast

import redis
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from unfold.decorators import display

from noregret.access.keys import revoke_key
from noregret.access.models import ApiKey
from noregret.access.uses import keep_uses

from .forms import KeyForm
from .pages import ServiceAddAdmin, ServiceForm
from .row_actions import ActionsAdmin, RowAction

_MADE = "made_keys"
"""Where a session keeps which forms have made their key."""
_MADE_KEPT = 50


def _catch_up(request: HttpRequest) -> None:
    """What was noted of uses since the last housekeeping comes in before it is shown."""
    try:
        keep_uses()
    except redis.RedisError:
        messages.warning(request, "Redis can't be reached: uses of the last hour may not be told.")


def _revoke(row: ApiKey, data: dict[str, Any], actor: str) -> str:
    revoke_key(row, actor=actor, reason=data["reason"])
    return f"The key of {row.name} was revoked."


class ApiKeyAdmin(ActionsAdmin, ServiceAddAdmin[ApiKey]):
    service_form = KeyForm
    add_help = "The key is shown once, right after it was created. Only its SHA-256 is kept."
    list_display = ("name", "shown_prefix", "listed_scopes", "listed_endpoints", "state", "used", "expires_at")
    search_fields = ("name", "prefix")
    fields = (
        ("name", "shown_prefix"),
        ("listed_scopes", "listed_endpoints"),
        ("created_by", "created_at"),
        ("expires_at", "revoked_at"),
        "used",
    )
    readonly_fields = ("created_at", "shown_prefix", "listed_scopes", "listed_endpoints", "used")
    row_actions = (
        RowAction(
            "revoke",
            "Revoke",
            lambda row: (
                f"Calls with the key {row.prefix}… of {row.name} will be refused from now on. This can't be undone."
            ),
            _revoke,
            offered=lambda row: row.revoked_at is None,
        ),
    )

    @admin.display(description="begins with")
    def shown_prefix(self, row: ApiKey) -> str:
        return f"{row.prefix}…"

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        _catch_up(request)
        return cast(HttpResponse, super().changelist_view(request, extra_context))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        _catch_up(request)
        return super().change_view(request, object_id, form_url, extra_context)

    @admin.display(description="last used", ordering="last_used_at")
    def used(self, row: ApiKey) -> str:
        if row.last_used_at is None:
            return "no use was noted"
        return f"{row.last_used_at:%Y-%m-%d %H:%M} UTC"

    @admin.display(description="scopes")
    def listed_scopes(self, row: ApiKey) -> str:
        return ", ".join(row.scopes)

    @admin.display(description="endpoints")
    def listed_endpoints(self, row: ApiKey) -> str:
        return "every endpoint" if row.endpoints is None else ", ".join(row.endpoints)

    @display(description="state", label={"in force": "success", "revoked": "danger", "expired": "warning"})  # type: ignore[untyped-decorator]  # unfold ships no types
    def state(self, row: ApiKey) -> str:
        if row.revoked_at is not None:
            return "revoked"
        return "expired" if row.expires_at is not None and row.expires_at <= timezone.now() else "in force"

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """A page that shows a new key and is reloaded sends its form again: that makes no second
        key."""
        once = request.POST.get("once")
        if once and once in request.session.get(_MADE, []):
            told = (
                "Nothing was made: that form has made its key already, which was shown once. "
                "If nobody noted it, revoke it here and make another."
            )
            messages.error(request, told)
            return HttpResponseRedirect(self.list_url())
        return super().add_view(request, form_url, extra_context)

    def made(self, request: HttpRequest, form: ServiceForm, row: ApiKey) -> HttpResponse:
        # In the answer itself: a message to the next page would leave the key in a cookie.
        assert isinstance(form, KeyForm)
        if once := request.POST.get("once"):
            request.session[_MADE] = [*request.session.get(_MADE, []), once][-_MADE_KEPT:]
        context = {"title": f"Key of {row.name}", "row": row, "text": form.text, "back": self.row_url(row)}
        return self.page(request, "noregret/key.html", context)
