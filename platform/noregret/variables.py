"""Every variable of the environment that a deployment can set: its name, what it is for, and its
default as a reader sees it. README.md ("Settings") has the same; `env` reads them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Variable:
    """One documented variable: its name, what it is for, and its default as a reader sees it."""

    name: str
    purpose: str
    default: str


VARIABLES: dict[str, Variable] = {}


def _variable(name: str, purpose: str, default: str) -> str:
    VARIABLES[name] = Variable(name, purpose, default)
    return name


DATABASE_URL = _variable(
    "DATABASE_URL", "PostgreSQL, as `postgresql://user:password@host:5432/name`", "the embedded server"
)
REPLICA_URL = _variable(
    "NOREGRET_REPLICA_URL",
    "a streaming replica of that PostgreSQL, in the same form: figures of results and pages are read from it",
    "none: the primary is read",
)
REPLICA_LAG_SECONDS = _variable(
    "NOREGRET_REPLICA_LAG_SECONDS",
    "with the replica further behind than this the primary is read, in seconds",
    "5",
)
REDIS_URL = _variable(
    "REDIS_URL",
    "Redis or Valkey, as `redis://host:6379/0` or `unix:///path/to/socket`; a cluster as `redis+cluster://host:6379,host:6379`",
    "the embedded server",
)
BROKER_URL = _variable(
    "NOREGRET_BROKER_URL",
    "the Redis of Celery's queues, as `redis://host:6379/0`; needed where `REDIS_URL` names a cluster, and no cluster itself",
    "`REDIS_URL`",
)
REDIS_PREFIX = _variable(
    "NOREGRET_REDIS_PREFIX",
    "what every Redis key starts with; installations that share a Redis need different ones",
    "`nr:`",
)
SECRET_KEY = _variable(
    "NOREGRET_SECRET_KEY",
    "signs sessions and decision ids; at least 32 characters, the same for every process",
    "a file in the data directory, made by the first `up`",
)
ALLOWED_HOSTS = _variable(
    "NOREGRET_ALLOWED_HOSTS",
    "host names that the service answers to, separated by commas",
    "`localhost,127.0.0.1,[::1]`",
)
TRUSTED_ORIGINS = _variable(
    "NOREGRET_TRUSTED_ORIGINS",
    "origins from which the admin takes forms, as `https://noregret.example.com`, separated by commas",
    "none",
)
CORS_ORIGINS = _variable(
    "NOREGRET_CORS_ORIGINS",
    "origins whose pages may call the serving calls from a browser, as `https://shop.example.com`, separated by commas; `*` for any",
    "none",
)
DATA_DIR = _variable(
    "NOREGRET_DATA_DIR",
    "directory of the embedded servers, artefacts, snapshots and the spool",
    "`.noregret` in the current directory",
)
PYTHON_CALLABLES = _variable(
    "NOREGRET_PYTHON_CALLABLES",
    "dotted paths that a `python` model may name, separated by commas; `package.*` for all of one",
    "none",
)
REMOTE_HOSTS = _variable(
    "NOREGRET_REMOTE_HOSTS",
    "hosts that remote models and registries may be called at, separated by commas: `name`, `name:port` or `*.domain`",
    "none: no remote model can be registered",
)
REMOTE_NETWORKS = _variable(
    "NOREGRET_REMOTE_NETWORKS",
    "networks that those hosts may have addresses in besides the internet, as `10.0.0.0/8,127.0.0.0/8`",
    "none: no private and no loopback address is called",
)
REMOTE_TOKENS = _variable(
    "NOREGRET_REMOTE_TOKENS",
    "the variable that holds the Bearer token for a host, as `triton.internal=TRITON_TOKEN`, separated by commas",
    "none",
)
REMOTE_ANSWER_LIMIT = _variable(
    "NOREGRET_REMOTE_ANSWER_LIMIT", "largest answer of a remote model, in bytes, at least 1024", "16777216"
)
MLFLOW_URL = _variable(
    "NOREGRET_MLFLOW_URL",
    "MLflow's tracking server, as `https://mlflow.example.com`: versions are imported from it, and its alias `champion` follows",
    "none",
)
SKOPS_TRUSTED = _variable(
    "NOREGRET_SKOPS_TRUSTED",
    "further types that a skops artefact may hold, separated by commas",
    "none beyond scikit-learn's, numpy's and scipy's",
)
ONNX_PROVIDERS = _variable(
    "NOREGRET_ONNX_PROVIDERS",
    "execution providers of ONNX Runtime that models of framework `onnx` are tried on before the CPU, as `CUDAExecutionProvider`, "
    "separated by commas; one that is not installed or does not start is told when such a model is loaded",
    "none: the CPU",
)
ONNX_THREADS = _variable("NOREGRET_ONNX_THREADS", "threads that one call of a model of framework `onnx` may take", "1")
ONNX_MEMORY_LIMIT = _variable(
    "NOREGRET_ONNX_MEMORY_LIMIT",
    "bytes of memory, at least 1048576, that the calls of all models of framework `onnx` may take at once in a process, "
    "besides the models' weights; a call that wants more fails",
    "1073741824",
)
SERVING_BODY_LIMIT = _variable(
    "NOREGRET_SERVING_BODY_LIMIT", "largest body of a serving call, in bytes, at least 1024", "1048576"
)
MAX_ROWS = _variable("NOREGRET_MAX_ROWS", "most rows of a predict call", "10000")
CACHE_BYTES = _variable(
    "NOREGRET_CACHE_BYTES",
    "bytes that a web process keeps of answers, of all endpoints with a `cache` together",
    "67108864",
)
EDGE_SIGNING_KEYS = _variable(
    "NOREGRET_EDGE_SIGNING_KEYS",
    "seeds of the Ed25519 keys that sign bundles for devices, 32 bytes in base64url each, separated by commas, `derived` for "
    "the one of the secret key: the first signs, devices are told all",
    "derived from the secret key",
)
EDGE_BUNDLE_SECONDS = _variable(
    "NOREGRET_EDGE_BUNDLE_SECONDS",
    "for how long a device may decide by a bundle, in seconds; one that is fetched has at least half of that left",
    "86400",
)
EDGE_GRACE_SECONDS = _variable(
    "NOREGRET_EDGE_GRACE_SECONDS",
    "for how long after that its events are taken, in seconds: devices may be offline",
    "604800",
)
EDGE_EVENTS_PER_MINUTE = _variable(
    "NOREGRET_EDGE_EVENTS_PER_MINUTE", "events of devices that are taken of a key in a minute", "60000"
)
ARTIFACT_LIMIT = _variable("NOREGRET_ARTIFACT_LIMIT", "largest artefact, in bytes, at least 1024", "104857600")
ARTIFACT_STORAGE = _variable(
    "NOREGRET_ARTIFACT_STORAGE",
    "the store of artefacts that all machines reach, as an entry of Django's STORAGES in JSON: "
    '`{"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {"bucket_name": "models", "location": "production"}}`; '
    "installations that share a bucket need different `location`s",
    "none: the data directory's `artifacts`, which all processes must then share",
)
ARTIFACT_CACHE_LIMIT = _variable(
    "NOREGRET_ARTIFACT_CACHE_LIMIT",
    "bytes of artefacts that a machine keeps of that store, at least 1048576",
    "10737418240",
)
SNAPSHOTS = _variable(
    "NOREGRET_SNAPSHOTS",
    "where a process reads snapshots: `redis`, or `storage` for the store of artefacts, where `manage.py put-snapshots` puts them",
    "`redis`",
)
DECISION_QUEUE = _variable(
    "NOREGRET_DECISION_QUEUE",
    "a callable, as `package.module.name`, that takes the text of each decision in place of Redis: of a function that reaches none",
    "none",
)
REFRESH_SECONDS = _variable(
    "NOREGRET_REFRESH_SECONDS", "how often a web process asks Redis for newer snapshots, in seconds", "0.1"
)
STALE_SECONDS = _variable(
    "NOREGRET_STALE_SECONDS",
    "without news from the learner, or with it behind an endpoint, for this long, answers say `stale`, in seconds",
    "10",
)
SPOOL_LIMIT = _variable(
    "NOREGRET_SPOOL_LIMIT",
    "bytes of decisions that the web processes of a machine keep on disk while Redis is away, or holds too many",
    "67108864",
)
BACKLOG_LIMIT = _variable(
    "NOREGRET_BACKLOG_LIMIT",
    "bytes of decisions that may wait in Redis for the learner, of all endpoints together, at least 65536; past it they wait on disk",
    "half of Redis's `maxmemory`, or 512 MiB where it has none",
)
ACCESS_LINES = _variable(
    "NOREGRET_ACCESS_LINES",
    "share of requests that are told in the log, from 0 to 1; answers of 500 and more always are",
    "0.01",
)
LEARN_SECONDS = _variable("NOREGRET_LEARN_SECONDS", "how often beat wakes the learner, in seconds", "1")
LEDGER_DAYS = _variable(
    "NOREGRET_LEDGER_DAYS",
    "for how many days decisions and rewards are kept; a day goes when every experiment has learned it",
    "400",
)
READ_SECONDS = _variable(
    "NOREGRET_READ_SECONDS",
    "after how long a statement of a control-plane call is ended, in seconds; of an export, six times that",
    "10",
)
BLOCKING_THREADS = _variable(
    "NOREGRET_BLOCKING_THREADS",
    "threads of a web process for the data plane; the control plane has half as many beside them",
    "8",
)
DATABASE_CONNECTIONS = _variable(
    "NOREGRET_DATABASE_CONNECTIONS",
    "the most connections that a web process opens to PostgreSQL: one for each thread of the control plane and one for probes, "
    "the rest for feedback",
    "twice the threads of the data plane, and at least 4",
)
PROXIES = _variable(
    "NOREGRET_PROXIES",
    "how many proxies stand before the service and add the address that they saw to X-Forwarded-For; failed logins count by it",
    "0: the header is not believed",
)
HTTPS = _variable("NOREGRET_HTTPS", "`1` behind TLS: secure cookies, HSTS, and X-Forwarded-Proto is believed", "0")
LOG_LEVEL = _variable("NOREGRET_LOG_LEVEL", "`DEBUG`, `INFO`, `WARNING` or `ERROR`", "INFO")
METRICS_DIR = _variable(
    "PROMETHEUS_MULTIPROC_DIR",
    "directory through which the web processes of a machine add up their metrics; `up` sets it",
    "none: each process counts alone",
)
WEBHOOK_PRIVATE = _variable("NOREGRET_WEBHOOK_PRIVATE", "`1`: webhooks may name private and loopback addresses", "0")
ALERT_EMAILS = _variable(
    "NOREGRET_ALERT_EMAILS",
    "who is told by e-mail of promotions, rollbacks, guardrails and recommendations, separated by commas",
    "nobody",
)
EMAIL_URL = _variable(
    "NOREGRET_EMAIL_URL",
    "the mail server, as `smtp://user:password@host:587`; `smtps` for STARTTLS",
    "`smtp://localhost:25`",
)
EMAIL_FROM = _variable("NOREGRET_EMAIL_FROM", "the sender of e-mail", "`noregret@localhost`")
WEB_CONCURRENCY = _variable(
    "WEB_CONCURRENCY", "web processes, where `--workers` does not say; several need `PROMETHEUS_MULTIPROC_DIR`", "1"
)
ROLE = _variable("NOREGRET_ROLE", "which part this process is; `up` sets it for its children", "none")
