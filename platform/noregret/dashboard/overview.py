"""The admin's first page: what needs a person, a card an endpoint, whether the platform is well,
and what happened last. Each part only for who may see its rows."""

import hashlib
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.http.response import HttpResponseRedirectBase
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag
from django.views.decorators.http import require_safe

from noregret.experiments.models import Endpoint, Experiment
from noregret.registry.models import ModelVersion
from noregret.rest.encoding import encoded

from .deeds import done
from .home import processes
from .home.cards import Sees, cards
from .home.needs import Need, needs
from .home.situation import MOST, situation
from .pages import may_see
from .seen_entries import entries_for

SHOWN_ENTRIES = 10
SHOWN_NEEDS = 20
FOLDED_NEEDS = 200
"""So many more can be opened."""
SHOWN_EXPERIMENTS = 20
REFRESH_SECONDS = 10

_SEES = {
    "experiments": ("experiments", "experiment"),
    "endpoints": ("experiments", "endpoint"),
    "audit": ("trail", "auditentry"),
    "quarantine": ("serving", "quarantinedevent"),
    "deliveries": ("notify", "delivery"),
    "keys": ("access", "apikey"),
    "models": ("registry", "modelversion"),
}
_MAKES = (
    ("experiments", "experiment"),
    ("experiments", "endpoint"),
    ("registry", "modelversion"),
    ("access", "apikey"),
)


def add_overview(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """unfold's callback for the index page."""
    context["title"] = "Overview"
    context["content_title"] = "Overview"
    return context | _part(request)[0]


@require_safe
def overview_part(request: HttpRequest) -> HttpResponse:
    """What of the first page changes, for its refresh; 304 where nothing has."""
    context, etag = _part(request)
    same = get_conditional_response(request, etag=etag)
    answer = (
        same
        if isinstance(same, HttpResponseNotModified)
        else HttpResponse(render_to_string("noregret/overview_part.html", context, request=request))
    )
    answer["ETag"] = etag
    return answer


def log_in_again(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A fragment's request follows a redirect to the login page and would put that into the page:
    htmx is told to load the page anew, which then asks for a login and comes back."""

    @wraps(view)
    def answered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        answer = view(request, *args, **kwargs)
        if isinstance(answer, HttpResponseRedirectBase) and request.headers.get("HX-Request") == "true":
            return HttpResponse(status=204, headers={"HX-Refresh": "true"})
        return answer

    return answered


def _part(request: HttpRequest) -> tuple[dict[str, Any], str]:
    """The context of overview_part.html, and the ETag of what it shows: the part asks with it for
    what comes after."""
    found = _found(request)
    overview = render_to_string("noregret/overview.html", found, request=request)
    etag = quote_etag(hashlib.blake2b(overview.encode(), digest_size=16).hexdigest())
    headers = encoded({"If-None-Match": etag}).decode()
    part = {"page": found["page"], "overview": overview, "headers": headers, "refresh_seconds": REFRESH_SECONDS}
    return part, etag


def _found(request: HttpRequest) -> dict[str, Any]:
    now = timezone.now()
    sees = {part: may_see(request, label, model) for part, (label, model) in _SEES.items()}
    health = processes.asked()
    read = situation(now, health, {part for part, is_seen in sees.items() if is_seen})
    found = needs(read)
    context: dict[str, Any] = {
        "see": sees,
        "may": {model: request.user.has_perm(f"{label}.add_{model}") for label, model in _MAKES},
        "has": {"models": ModelVersion.objects.exists(), "endpoints": Endpoint.objects.exists()},
        "host": f"{request.scheme}://{request.get_host()}",
        "needs": _offered(request, found[:SHOWN_NEEDS]),
        "more_needs": _offered(request, found[SHOWN_NEEDS : SHOWN_NEEDS + FOLDED_NEEDS]),
        "unlisted_needs": _are_more(found),
        "health": processes.lines(health, now),
        "page": request.GET.get("page", ""),
    }
    if sees["endpoints"]:
        number = int(context["page"]) if context["page"].isdecimal() and len(context["page"]) < 7 else 1
        context["cards"] = cards(now, number, Sees(sees["experiments"], sees["audit"], read))
    elif sees["experiments"]:
        begun = Experiment.objects.filter(status__in=("running", "paused")).select_related("endpoint")
        context["experiments"] = begun.order_by("-started_at")[:SHOWN_EXPERIMENTS]
    if sees["audit"]:
        context["audit"] = [(entry, done(entry)) for entry in entries_for(request)[:SHOWN_ENTRIES]]
    return context


def _are_more(found: list[Need]) -> bool:
    """May there be needs that can't be opened either? Of each cause no more than so many rows are
    read."""
    causes = Counter(need.cause for need in found)
    return len(found) > SHOWN_NEEDS + FOLDED_NEEDS or any(count >= MOST for count in causes.values())


def _offered(request: HttpRequest, found: list[Need]) -> list[tuple[Need, str, str]]:
    """Each need with its link: who may not act is led to where it is seen."""
    may_act = request.user.has_perm("experiments.change_experiment")
    offered = []
    for need in found:
        acts = "/do/" in need.url
        url, label = (need.url, need.action) if may_act or not acts else (_seen_at(need.url), "See the experiment")
        offered.append((need, url, label))
    return offered


def _seen_at(url: str) -> str:
    return f"{url.partition('/do/')[0]}/change/"
