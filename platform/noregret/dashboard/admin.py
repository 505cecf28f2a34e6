"""What the admin holds. Everything is registered here, in the order of the sidebar."""

from typing import Any

import msgspec
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from noregret.access.keys import revoke_key
from noregret.access.models import ApiKey
from noregret.experiments.batches import Batch, batch
from noregret.experiments.caching import Cache, cache
from noregret.experiments.errors import Invalid
from noregret.experiments.models import ChampionChange, Endpoint, Experiment
from noregret.learning.cached_shares import cached_shares
from noregret.mlflow.models import AliasMove, ImportedVersion
from noregret.notify.models import Delivery, Webhook
from noregret.registry.models import ModelVersion
from noregret.rollout.endpoints import rollback_endpoint, update_endpoint
from noregret.trail.models import AuditEntry
from serving.models import QuarantinedEvent

from .experiment_page import ExperimentPages
from .forms import BatchForm, CacheForm, ChampionForm, EndpointForm, KeyForm, ModelForm
from .models_here import states_here
from .overview import overview_part
from .pages import ReadOnlyAdmin, ServiceAddAdmin, ServiceForm, may_see
from .row_actions import ActionsAdmin, RowAction
from .words import time_told

SHOWN_BYTES = 512

admin.site.register(Experiment, ExperimentPages)

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]  # unfold ships no types; Django's is no generic
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]  # as above
    pass


@admin.register(ModelVersion)
class ModelVersionAdmin(ServiceAddAdmin[ModelVersion]):
    service_form = ModelForm
    add_button = "Register"
    add_help = (
        "A version never changes once it is registered. Models are read by a confined process; pickles are refused."
    )
    list_display = ("model", "framework", "shown_runtime", "size", "created_by", "created_at")
    list_filter = ("framework", "runtime")
    search_fields = ("name", "version", "sha256")
    fields = (
        ("name", "version"),
        ("framework", "shown_runtime"),
        "signature",
        "compile_note",
        "cost",
        "callable",
        "payload",
        "sha256",
        "compiled_sha256",
        ("size", "created_by", "created_at"),
    )
    readonly_fields = ("created_at", "shown_runtime", "cost")

    @admin.display(description="served by", ordering="runtime")
    def shown_runtime(self, row: ModelVersion) -> str:
        return row.served_by

    @admin.display(description="time of a call")
    def cost(self, row: ModelVersion) -> str:
        """As measured when it was registered."""
        if row.call_seconds is None:
            return "not measured"
        rows = "" if row.row_seconds is None else f", and {time_told(row.row_seconds)} for each row"
        return f"{time_told(row.call_seconds)}{rows}"


class ChampionInline(TabularInline):  # type: ignore[misc]  # as above
    model = ChampionChange
    fk_name = "endpoint"
    fields = ("champion", "previous", "experiment", "actor", "reason", "at")
    readonly_fields = fields
    extra = 0
    can_delete = False
    hide_title = True  # the row's own text: ids, which say nothing to a person
    verbose_name_plural = "champions, newest first"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _change_endpoint(row: Endpoint, data: dict[str, Any], actor: str) -> str:
    champion: ModelVersion = data["champion"]
    changed = update_endpoint(
        row, champion=champion.model, deadline_ms=data["deadline_ms"], reason=data["reason"], actor=actor
    )
    return f"{changed.name} has the champion {champion.model} and a deadline of {changed.deadline_ms:,} ms."


def _change_cache(row: Endpoint, data: dict[str, Any], actor: str) -> str:
    entries, seconds = data["entries"], data["seconds"]
    if entries is None and seconds is not None:
        raise Invalid("entries", "a number was expected beside the seconds")
    cache = None if entries is None else Cache(entries, seconds)
    update_endpoint(row, champion=None, deadline_ms=None, cache=cache, reason=data["reason"], actor=actor)
    return f"{row.name} keeps {'no answers' if cache is None else f'up to {cache.entries:,} answers a web process'}."


def _change_batch(row: Endpoint, data: dict[str, Any], actor: str) -> str:
    together = None if data["rows"] is None else Batch(data["rows"], data["wait_ms"] or 0.0)
    update_endpoint(row, champion=None, deadline_ms=None, batch=together, reason=data["reason"], actor=actor)
    return f"{row.name} computes {'each request by itself' if together is None else f'up to {together.rows:,} rows together'}."


def _roll_back(row: Endpoint, data: dict[str, Any], actor: str) -> str:
    return f"The champion is {rollback_endpoint(row, reason=data['reason'], actor=actor).champion.model} again."


@admin.register(Endpoint)
class EndpointAdmin(ActionsAdmin, ServiceAddAdmin[Endpoint]):
    service_form = EndpointForm
    list_display = ("name", "champion", "deadline_ms", "policy_version", "created_at")
    search_fields = ("name",)
    list_select_related = ("champion",)
    fields = (
        ("name", "champion"),
        ("deadline_ms", "record"),
        ("shown_cache", "hits"),
        ("shown_batch", "models_here"),
        ("policy_version", "created_at"),
    )
    readonly_fields = ("policy_version", "created_at", "shown_cache", "hits", "shown_batch", "models_here")
    inlines = (ChampionInline,)
    row_actions = (
        RowAction(
            "change",
            "Change champion or deadline",
            lambda row: (
                f"All traffic of {row.name} goes to the chosen champion at once, without an experiment. "
                "An experiment that runs must be paused or stopped first."
            ),
            _change_endpoint,
            ChampionForm,
        ),
        RowAction(
            "cache",
            "Change the cache",
            lambda row: (
                f"Web processes keep what the models of {row.name} answered, for requests with the same rows. "
                "Decisions are made and recorded all the same."
            ),
            _change_cache,
            CacheForm,
        ),
        RowAction(
            "batch",
            "Change batching",
            lambda row: (
                f"Requests on {row.name} that come while a slow model of a file is busy are computed together. "
                "Each gets its own answer and its own decision."
            ),
            _change_batch,
            BatchForm,
        ),
        RowAction(
            "rollback",
            "Roll back",
            lambda row: (
                f"The champion before {row.champion.model} becomes champion of {row.name} again and gets all of its traffic."
            ),
            _roll_back,
            offered=lambda row: row.champion_changes.filter(previous__isnull=False).exists(),
        ),
    )

    def get_urls(self) -> list[URLPattern]:
        part = path("overview", self.admin_site.admin_view(overview_part), name="overview-part")
        return [part, *super().get_urls()]

    @admin.display(description="cache")
    def shown_cache(self, row: Endpoint) -> str:
        kept = cache(row.cache)
        if kept is None:
            return "none"
        until = "" if kept.seconds is None else f", each good for {kept.seconds:g} s"
        return f"up to {kept.entries:,} answers a web process{until}"

    @admin.display(description="batching")
    def shown_batch(self, row: Endpoint) -> str:
        together = batch(row.batch)
        if together is None:
            return "none"
        wait = f", after a wait of {together.wait_ms:g} ms where others come" if together.wait_ms else ""
        return f"up to {together.rows:,} rows a call{wait}"

    @admin.display(description="its models in this web process")
    def models_here(self, row: Endpoint) -> str:
        return ", ".join(states_here(row.name)) or "not known here yet"

    @admin.display(description="answered from the cache")
    def hits(self, row: Endpoint) -> str:
        """Of the running experiment's decisions, or else of the champion's baseline."""
        shares = cached_shares(row)
        return ", ".join(f"{who}: {share:.1%}" for who, share in shares.items()) or "-"


def _revoke(row: ApiKey, data: dict[str, Any], actor: str) -> str:
    revoke_key(row, actor=actor, reason=data["reason"])
    return f"The key of {row.name} was revoked."


@admin.register(ApiKey)
class ApiKeyAdmin(ActionsAdmin, ServiceAddAdmin[ApiKey]):
    service_form = KeyForm
    add_help = "The key is shown once, right after it was created. Only its SHA-256 is kept."
    list_display = ("name", "shown_prefix", "listed_scopes", "listed_endpoints", "state", "expires_at", "created_by")
    search_fields = ("name", "prefix")
    fields = (
        ("name", "shown_prefix"),
        ("listed_scopes", "listed_endpoints"),
        ("created_by", "created_at"),
        ("expires_at", "revoked_at"),
    )
    readonly_fields = ("created_at", "shown_prefix", "listed_scopes", "listed_endpoints")
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

    @admin.display(description="scopes")
    def listed_scopes(self, row: ApiKey) -> str:
        return ", ".join(row.scopes)

    @admin.display(description="endpoints")
    def listed_endpoints(self, row: ApiKey) -> str:
        return "every endpoint" if row.endpoints is None else ", ".join(row.endpoints)

    @display(description="state", label={"in force": "success", "revoked": "danger", "expired": "warning"})  # type: ignore[untyped-decorator]  # as above
    def state(self, row: ApiKey) -> str:
        if row.revoked_at is not None:
            return "revoked"
        return "expired" if row.expires_at is not None and row.expires_at <= timezone.now() else "in force"

    def made(self, request: HttpRequest, form: ServiceForm, row: ApiKey) -> HttpResponse:
        # In the answer itself: a message to the next page would leave the key in a cookie.
        assert isinstance(form, KeyForm)
        context = {"title": f"Key of {row.name}", "row": row, "text": form.text, "back": self.row_url(row)}
        return self.page(request, "noregret/key.html", context)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin[AuditEntry]):
    list_display = ("at", "actor", "action", "endpoint", "experiment", "model", "reason")
    list_filter = ("action",)
    search_fields = ("actor", "endpoint", "experiment", "model", "reason")
    fields = ("at", "actor", "action", "endpoint", "experiment", "model", "reason", "details")
    readonly_fields = ("at",)


@admin.register(QuarantinedEvent)
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


class AliasMoveInline(TabularInline):  # type: ignore[misc]  # as above
    model = AliasMove
    fields = ("alias", "endpoint", "state", "attempts", "due_at", "done_at", "problem")
    readonly_fields = fields
    extra = 0
    can_delete = False
    hide_title = True
    verbose_name_plural = "moves of its alias, newest first"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Part of the import's page: who may see that may see where its alias went."""
        return may_see(request, "mlflow", "importedversion")


@admin.register(ImportedVersion)
class ImportedVersionAdmin(ReadOnlyAdmin[ImportedVersion]):
    """Made by `manage.py import-mlflow` and over the API."""

    list_display = ("model", "mlflow_name", "mlflow_version", "alias", "created_by", "created_at")
    search_fields = ("name", "version", "mlflow_name", "run_id")
    fields = (
        ("name", "version"),
        ("mlflow_name", "mlflow_version"),
        "run_id",
        "metrics",
        "sha256",
        "url",
        ("created_by", "created_at"),
    )
    readonly_fields = ("created_at",)
    inlines = (AliasMoveInline,)

    @admin.display(description="alias")
    def alias(self, row: ImportedVersion) -> str:
        """What became of the last move of it."""
        move = row.moves.order_by("-pk").first()
        return "-" if move is None else f"{move.alias}: {move.get_state_display().lower()}"


@admin.register(Webhook)
class WebhookAdmin(ReadOnlyAdmin[Webhook]):
    """Made and removed over the API, which tells the secret once."""

    list_display = ("name", "url", "active", "created_by", "created_at")
    fields = ("name", "url", "events", "endpoints", "active", "created_by", "created_at")


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin[Delivery]):
    """What was told, what waits, and what was given up."""

    list_display = ("event", "webhook", "state", "attempts", "due_at", "problem")
    list_filter = ("state", "event")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """What was told is what the audit trail holds: for those who may read that."""
        told = ("body",) if may_see(request, "trail", "auditentry") else ()
        return ("event", "webhook", "state", "attempts", "created_at", "due_at", "done_at", "problem", *told)
