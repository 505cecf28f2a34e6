"""Every address of the control plane; those of the data plane are in serving.web.routes."""

from django.contrib import admin
from django.urls import include, path

from noregret import operations
from noregret.demo import onnxruntime_web
from noregret.demo import page as digits
from noregret.learning.api import decisions, results
from noregret.mlflow import api as mlflow
from noregret.notify import api as notify
from noregret.openapi import docs
from noregret.registry import api as registry
from noregret.rollout.api import endpoints, experiments
from noregret.trail import api as trail

_manage = [
    path("models", registry.ModelsView.as_view(), name="models"),
    path("models/<str:name>/<str:version>", registry.ModelView.as_view(), name="model"),
    path("jobs/<str:job>", registry.JobView.as_view(), name="job"),
    path("endpoints", endpoints.EndpointsView.as_view(), name="endpoints"),
    path("endpoints/<str:name>", endpoints.EndpointView.as_view(), name="endpoint"),
    path("endpoints/<str:name>/rollback", endpoints.EndpointRollbackView.as_view(), name="endpoint-rollback"),
    path("experiments", experiments.ExperimentsView.as_view(), name="experiments"),
    path("experiments/<str:name>", experiments.ExperimentView.as_view(), name="experiment"),
    path("experiments/<str:name>/promote", experiments.PromoteView.as_view(), name="promote"),
    path("endpoints/<str:name>/champions", endpoints.ChampionsView.as_view(), name="champions"),
    path("endpoints/<str:name>/baselines", endpoints.BaselinesView.as_view(), name="baselines"),
    path("webhooks", notify.WebhooksView.as_view(), name="webhooks"),
    path("webhooks/<str:name>", notify.WebhookView.as_view(), name="webhook"),
    path("experiments/<str:name>/advance", experiments.AdvanceView.as_view(), name="advance"),
    path("experiments/<str:name>/activate", experiments.ActivateView.as_view(), name="activate"),
    path("experiments/<str:name>/floor", experiments.FloorView.as_view(), name="floor"),
    path("experiments/<str:name>/arms", experiments.ArmsView.as_view(), name="arms"),
    path("experiments/<str:name>/arms/<str:arm>/enable", experiments.ArmView.as_view(enabled=True), name="enable-arm"),
    path(
        "experiments/<str:name>/arms/<str:arm>/disable", experiments.ArmView.as_view(enabled=False), name="disable-arm"
    ),
    *(
        path(f"experiments/<str:name>/{action}", experiments.TransitionView.as_view(action=action), name=action)
        for action in experiments.ACTIONS
    ),
    path("experiments/<str:name>/results", results.ResultsView.as_view(), name="results"),
    path("experiments/<str:name>/decisions.ndjson", decisions.DecisionsView.as_view(), name="decisions"),
    path("mlflow/imports", mlflow.ImportsView.as_view(), name="mlflow-imports"),
    path("audit", trail.AuditView.as_view(), name="audit"),
]

urlpatterns = [
    path("api/v1/", include(_manage)),
    path("api/schema", docs.schema, name="schema"),
    path("api/docs", docs.page, name="docs"),
    path("demo/digits", digits.DigitsPage.as_view(), name="digits-page"),
    path("demo/digits/worker.js", digits.DigitsWorker.as_view(), name="digits-worker"),
    path(f"demo/digits/{onnxruntime_web.FOLDER}/<str:name>", digits.DigitsRuntime.as_view(), name="digits-runtime"),
    path("healthz", operations.healthz, name="healthz"),
    path("readyz", operations.readyz, name="readyz"),
    path("metrics", operations.metrics, name="metrics"),
    path("favicon.ico", operations.favicon, name="favicon"),
    path("admin/", admin.site.urls),
]

handler400 = "noregret.dashboard.refused.handle_400"
handler403 = "noregret.dashboard.refused.handle_403"
handler404 = "noregret.dashboard.refused.handle_404"
handler500 = "noregret.dashboard.refused.handle_500"
