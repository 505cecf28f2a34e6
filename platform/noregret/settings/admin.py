"""The admin's look: unfold's settings."""

from typing import Any

from django.urls import reverse_lazy


def _item(title: str, icon: str, view: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse_lazy(view)}


UNFOLD = {
    "SITE_TITLE": "Noregret",
    "SITE_HEADER": "Noregret",
    "SITE_SYMBOL": "alt_route",
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [lambda request: "/static/dashboard/dashboard.css"],
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
                ],
            },
            {
                "title": "Access",
                "items": [
                    _item("API keys", "key", "admin:access_apikey_changelist"),
                    _item("Audit trail", "history", "admin:access_auditentry_changelist"),
                    _item("Users", "person", "admin:auth_user_changelist"),
                ],
            },
            {
                "title": "Health",
                "items": [_item("Quarantine", "report", "admin:serving_quarantinedevent_changelist")],
            },
        ],
    },
}
