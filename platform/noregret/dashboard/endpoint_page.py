"""The page of an endpoint: its champions, what can be changed, and a request that is made from
there."""

import json
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from unfold.admin import TabularInline

from noregret.experiments.batches import Batch, batch
from noregret.experiments.caching import Cache, cache
from noregret.experiments.errors import Invalid
from noregret.experiments.models import ChampionChange, Endpoint
from noregret.learning.baseline_figures import BaselineFigures, present_figures
from noregret.learning.cached_shares import cached_shares
from noregret.learning.health import not_learned_yet
from noregret.learning.shown.phrases import evidence_told
from noregret.registry.models import ModelVersion
from noregret.rollout.endpoints import champion_before, rollback_endpoint, update_endpoint
from serving.problems import Problem

from . import playground
from .call_as_code import as_code
from .forms import BatchForm, CacheForm, ChampionForm, EndpointForm, ForcedForm
from .models_here import states_here
from .overview import log_in_again, overview_part
from .pages import ServiceAddAdmin, actor_of
from .row_actions import ActionsAdmin, RowAction
from .told_reward import tells_rates, told_rewards
from .verdicts import told


class ChampionInline(TabularInline):  # type: ignore[misc]  # as above
    model = ChampionChange
    fk_name = "endpoint"
    fields = ("champion", "previous", "experiment", "actor", "reason", "shown_evidence", "at")
    readonly_fields = fields
    extra = 0
    can_delete = False
    hide_title = True  # the row's own text: ids, which say nothing to a person
    verbose_name_plural = "champions, newest first"

    @admin.display(description="evidence")
    def shown_evidence(self, row: ChampionChange) -> str:
        """What made it champion."""
        return evidence_of_change(row.evidence)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def evidence_of_change(evidence: dict[str, Any]) -> str:
    """In words where it is a rule's, else each figure by its name; '-' of a person's own doing."""
    value, needed = evidence.get("value"), evidence.get("needed")
    if isinstance(value, int | float) and isinstance(needed, int | float):
        return evidence_told(value, needed)
    figures = [f"{name} {figure}" for name, figure in evidence.items() if isinstance(figure, str | int | float)]
    return ", ".join(figures) or "-"


def _change_endpoint(row: Endpoint, data: dict[str, Any], actor: str) -> str:
    champion: ModelVersion = data["champion"]
    changed = update_endpoint(
        row,
        champion=champion.model,
        deadline_ms=data["deadline_ms"],
        reason=data["reason"],
        force=data["seen"],
        actor=actor,
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


def _state(row: Endpoint) -> str:
    """What its actions change."""
    return json.dumps([row.champion_id, row.deadline_ms, row.cache, row.batch], sort_keys=True)


def _rollback_question(row: Endpoint) -> str:
    before = champion_before(row)
    again = "The champion before" if before is None else f"{before.model}, the champion before"
    return f"{again} {row.champion.model}, becomes champion of {row.name} again and gets all of its traffic."


def _roll_back(row: Endpoint, data: dict[str, Any], actor: str) -> str:
    changed = rollback_endpoint(row, reason=data["reason"], force=data["seen"], actor=actor)
    return f"The champion is {changed.champion.model} again."


def _told(row: Endpoint, baseline: BaselineFigures) -> dict[str, str]:
    """Figures in their units. (The page calls a form's errors `errors`: no figure may have that
    name.)"""
    reward = told_rewards([row])[row.pk]
    mean = "no reward yet"
    if baseline.mean is not None:
        percent = baseline.kind == "binary" or (
            reward.metric == baseline.metric and tells_rates(reward, [baseline.mean])
        )
        mean, *ends = told.values([baseline.mean, *(baseline.interval or ())], percent=percent)
        mean += f" ({' to '.join(ends)})" if ends else ""
    per_day = baseline.decisions_per_day
    return {
        "decisions": f"{baseline.decisions:,}",
        "per_day": "not known yet" if per_day is None else f"{per_day:,.0f}",
        "mean": mean,
        "rewards": f"{baseline.rewards:,}",
        "failures": "no decision yet" if baseline.error_rate is None else f"{baseline.error_rate:.2%}",
    }


class EndpointAdmin(ActionsAdmin, ServiceAddAdmin[Endpoint]):
    service_form = EndpointForm
    change_form_after_template = "noregret/baseline.html"
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
            state=_state,
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
            state=_state,
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
            state=_state,
        ),
        RowAction(
            "rollback",
            "Roll back",
            _rollback_question,
            _roll_back,
            ForcedForm,
            offered=lambda row: champion_before(row) is not None,
            state=_state,
        ),
    )

    def get_urls(self) -> list[URLPattern]:
        part = path("overview", log_in_again(self.admin_site.admin_view(overview_part)), name="overview-part")
        tried = path("<int:pk>/try", self.admin_site.admin_view(self.try_view), name="endpoint-try")
        return [part, tried, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        seen = row is not None and self.has_view_permission(request, row)
        baseline = present_figures(row) if row is not None and seen else None
        extra = {
            "row_links": self._links(request, row),
            "baseline": baseline,
            "baseline_told": None if baseline is None or row is None else _told(row, baseline),
            "not_learned": "" if baseline is None or row is None else not_learned_yet(row.name),
        }
        return super().change_view(request, object_id, form_url, extra | (extra_context or {}))

    def _links(self, request: HttpRequest, row: Endpoint | None) -> list[tuple[str, str]]:
        """Where else one goes from its page, for whoever may."""
        links = [("Try it", "../try")] if self.may(request, "change") else []
        if row is not None and request.user.has_perm("experiments.add_experiment"):
            begin = f"{reverse('admin:experiments_experiment_add')}?{urlencode({'endpoint': row.name})}"
            links.append(("New experiment", begin))
        return links

    def try_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """GET shows the form with a sample row; POST makes the decision, and shows it."""
        row = self.get_queryset(request).filter(pk=pk).first()
        if row is None:
            raise Http404
        if not self.may(request, "change"):
            raise PermissionDenied
        posted = request.method == "POST"
        form = playground.TryForm(row, playground.context_fields(row), request.POST if posted else None)
        tried, codes = None, []
        if posted and form.is_valid():
            body = form.body()
            try:
                tried = playground.decide(row, form.call, body, actor=actor_of(request))
                url = request.build_absolute_uri(f"/api/v1/endpoints/{row.name}/{form.call}")
                codes = as_code(url, body)
            except Problem as problem:
                form.refuse(problem)
            except playground.NotServed:
                form.add_error(None, "This web process does not serve the endpoint yet: try again in a moment.")
        context = {
            "title": f"Try {row.name}",
            "endpoint": row,
            "form": form,
            "tried": tried,
            "codes": codes,
            "back": self.row_url(row),
        }
        return self.page(request, "noregret/playground.html", context, status=400 if form.errors else 200)

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
