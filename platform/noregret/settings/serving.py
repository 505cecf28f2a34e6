"""The hot path and the registry: limits, intervals and what models may do."""

from serving.edge.rules import EdgeRules

from .core import DATA_DIR, ENVIRONMENT

REDIS_URL = ENVIRONMENT.redis_url
# Every Redis key of Noregret starts with this; tests give each its own.
REDIS_PREFIX = ENVIRONMENT.redis_prefix

SERVING_BODY_LIMIT = ENVIRONMENT.serving_body_limit
# Pages of these origins may call the data plane.
CORS_ORIGINS = ENVIRONMENT.cors_origins
MAX_ROWS = ENVIRONMENT.max_rows
CACHE_BYTES = ENVIRONMENT.cache_bytes
ARTIFACT_LIMIT = ENVIRONMENT.artifact_limit
# Bodies that are larger than a few pages go here while they come, without a name; all of them
# together take so much.
UPLOAD_DIR = DATA_DIR / "uploads"
UPLOAD_DISK_LIMIT = 4 * ARTIFACT_LIMIT
ARTIFACT_DIR = DATA_DIR / "artifacts"
ARTIFACT_CACHE_LIMIT = ENVIRONMENT.artifact_cache_limit
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
if ENVIRONMENT.artifact_storage is not None:
    STORAGES["artifacts"] = ENVIRONMENT.artifact_storage
SNAPSHOT_DIR = DATA_DIR / "snapshots"
SPOOL_DIR = DATA_DIR / "spool"
SPOOL_LIMIT = ENVIRONMENT.spool_limit
BACKLOG_LIMIT = ENVIRONMENT.backlog_limit
SNAPSHOTS = ENVIRONMENT.snapshots
DECISION_QUEUE = ENVIRONMENT.decision_queue
REFRESH_SECONDS = ENVIRONMENT.refresh_seconds
STALE_SECONDS = ENVIRONMENT.stale_seconds
PYTHON_CALLABLES = ENVIRONMENT.python_callables
REMOTE_HOSTS = ENVIRONMENT.remote_hosts
REMOTE_NETWORKS = ENVIRONMENT.remote_networks
REMOTE_TOKENS = ENVIRONMENT.remote_tokens
REMOTE_ANSWER_LIMIT = ENVIRONMENT.remote_answer_limit
MLFLOW_URL = ENVIRONMENT.mlflow_url
SKOPS_TRUSTED = ENVIRONMENT.skops_trusted
ONNX_PROVIDERS = ENVIRONMENT.onnx_providers
ONNX_THREADS = ENVIRONMENT.onnx_threads
ONNX_MEMORY_LIMIT = ENVIRONMENT.onnx_memory_limit

# Bodies are measured by serving.bodies before they are read; Django's own limit would answer HTML
# and at 2.5 MB.
DATA_UPLOAD_MAX_MEMORY_SIZE = None
FILE_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024

# Bundles for devices: who signs them, how long they are good, and what is taken of a device's key.
EDGE = EdgeRules(
    ENVIRONMENT.edge_signing_keys,
    ENVIRONMENT.edge_bundle_seconds,
    ENVIRONMENT.edge_grace_seconds,
    ENVIRONMENT.edge_events_per_minute,
)

METRICS_DIR = ENVIRONMENT.metrics_dir
if METRICS_DIR is not None:
    METRICS_DIR.mkdir(parents=True, exist_ok=True)  # counters are files there from the first import on
ACCESS_LINES = ENVIRONMENT.access_lines
