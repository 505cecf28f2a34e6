"""Applications, keys and paths."""

from noregret.env import Environment

ENVIRONMENT = Environment.read()

DATA_DIR = ENVIRONMENT.data_dir
DEBUG = False
SECRET_KEY = ENVIRONMENT.secret_key

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "serving",
    "noregret.trail",
    "noregret.access",
    "noregret.registry",
    "noregret.experiments",
    "noregret.learning",
    "noregret.rollout",
    "noregret.steering",
    "noregret.dashboard",
    "noregret.embedded",
    "noregret.demo",
    "noregret.bench",
    "noregret.planning",
    "noregret.packaging",
    "noregret.notify",
    "noregret.mlflow",
    "noregret.retention",
    "noregret.serverless",
]

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
DATETIME_FORMAT = "Y-m-d H:i:s"
DATE_FORMAT = "Y-m-d"
USE_TZ = True

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
