"""The admin's look: unfold's settings."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def _item(title: str, icon: str, view: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse_lazy(view), "permission": _may_view(view)}


def _may_view(view: str) -> Callable[[HttpRequest], bool]:
    """Does the person of a request see the list behind a link? What they may not open is not
    offered."""
    label, _, rest = view.removeprefix("admin:").partition("_")
    model = rest.partition("_")[0]

    def may(request: HttpRequest) -> bool:
        user = request.user
        return not model or any(user.has_perm(f"{label}.{action}_{model}") for action in ("view", "change"))

    return may


def _stylesheet(request: HttpRequest) -> str:
    return static("dashboard/dashboard.css")


def _colours(request: HttpRequest) -> str:
    return static("dashboard/colours.css")


def _htmx_config(request: HttpRequest) -> str:
    return static("dashboard/htmx_config.js")


def _typed(request: HttpRequest) -> str:
    return static("dashboard/typed.js")


def _no_colours(request: HttpRequest) -> dict[str, dict[str, str]]:
    return {}


# The login page when it was opened itself: Django's own default is an address that nobody serves.
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
# Django's own page for it has a style in it, and leads nowhere.
CSRF_FAILURE_VIEW = "noregret.dashboard.login.form_refused"

# Times as in the API and the logs; the formats of a language would come before DATETIME_FORMAT.
FORMAT_MODULE_PATH = ["noregret.dashboard.formats"]


UNFOLD = {
    "SITE_TITLE": "Noregret",
    "SITE_HEADER": "Noregret",
    "SITE_SYMBOL": "alt_route",
    "SITE_URL": None,  # nothing is at "/": the admin has no site to return to
    "LOGIN": {"form": "noregret.dashboard.login.LoginForm"},
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [_colours, _stylesheet],
    "SCRIPTS": [_htmx_config, _typed],
    # The theme would write them into each page as an inline style: they stand in colours.css.
    "COLORS": _no_colours,
    "DASHBOARD_CALLBACK": "noregret.dashboard.overview.add_overview",
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": [
            {
                "title": "Rollouts",
                "items": [
                    _item("Overview", "dashboard", "admin:index"),
                    _item("Experiments", "science", "admin:experiments_experiment_changelist"),
                    _item("Endpoints", "hub", "admin:experiments_endpoint_changelist"),
                    _item("Models", "deployed_code", "admin:registry_modelversion_changelist"),
                    _item("From MLflow", "download", "admin:mlflow_importedversion_changelist"),
                ],
            },
            {
                "title": "Access",
                "items": [
                    _item("API keys", "key", "admin:access_apikey_changelist"),
                    _item("Audit trail", "history", "admin:trail_auditentry_changelist"),
                    _item("Users", "person", "admin:auth_user_changelist"),
                ],
            },
            {
                "title": "Health",
                "items": [
                    _item("Deliveries", "outbox", "admin:notify_delivery_changelist"),
                    _item("Webhooks", "webhook", "admin:notify_webhook_changelist"),
                    _item("Quarantine", "report", "admin:serving_quarantinedevent_changelist"),
                ],
            },
        ],
    },
}
