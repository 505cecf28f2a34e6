"""HTTP: middleware, templates, static files, security headers."""

from csp.constants import NONE, SELF, UNSAFE_EVAL

from noregret.package_path import PACKAGE

from .core import ENVIRONMENT

ROOT_URLCONF = "noregret.urls"
WSGI_APPLICATION = "noregret.wsgi.application"
APPEND_SLASH = False
ALLOWED_HOSTS = list(ENVIRONMENT.allowed_hosts)
CSRF_TRUSTED_ORIGINS = list(ENVIRONMENT.trusted_origins)

STATIC_URL = "/static/"

MIDDLEWARE = [
    "noregret.operations.answer_probes",
    "noregret.rest.turns.take_turns",
    "noregret.rest.reads.bound_statements",
    "csp.middleware.CSPMiddleware",
    "noregret.rest.gate.refuse_nul",
    "noregret.rest.gate.bound_pages",
    "noregret.dashboard.login.tell_logins",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "noregret.rest.reads.BoundedPages",
]

# Pages load and run what comes from here, and nothing that stands in them, no style in an attribute
# either. The theme's scripts evaluate expressions in attributes (Alpine).
CONTENT_SECURITY_POLICY = {
    # What is read by programs is no page. The documentation of the API is one.
    "EXCLUDE_URL_PREFIXES": ["/api/v1", "/api/schema", "/healthz", "/readyz", "/metrics", STATIC_URL],
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, UNSAFE_EVAL],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [PACKAGE / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Served from the packages' own folders: a first start needs no collectstatic step that could be
# forgotten.
WHITENOISE_USE_FINDERS = True
WHITENOISE_MAX_AGE = 3600

PROXIES = ENVIRONMENT.proxies
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
if ENVIRONMENT.https:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
