"""Django settings; values come from ``env.py``, paper trading on 127.0.0.1 is the default."""

from importlib.util import find_spec
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from mats_site.env import prepare_home, read_environment, secret_key
from mats_site.log_config import logging_config
from strategies.exceptions import ConfigError

BASE_DIR = Path(__file__).resolve().parent.parent
# The web shows ninja's templates and files; as an installed app each command would import it, and Django's test tools.
NINJA_DIR = Path(str(getattr(find_spec("ninja"), "origin", ""))).parent

try:
    MATS = read_environment()
    prepare_home(MATS.mats_home)
    SECRET_KEY = secret_key(MATS.secret_key_file)
except ConfigError as error:
    raise ImproperlyConfigured(error.message) from error

DEBUG = MATS.debug
ALLOWED_HOSTS = list(MATS.allowed_hosts)

INSTALLED_APPS = [
    "mats_site.apps.MatsAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "simple_history",
    "django_jsonform",
    "strategies.apps.StrategiesConfig",
    "portfolio.apps.PortfolioConfig",
    "trading.apps.TradingConfig",
    "mats_site.apps.MatsSiteConfig",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
    "mats_site.middleware.ContentSecurityPolicyMiddleware",
    "mats_site.passwords.OneTimePasswordMiddleware",
]

ROOT_URLCONF = "mats_site.urls"
ASGI_APPLICATION = "mats_site.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates", NINJA_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

_database = {**environ.Env.db_url_config(MATS.database_url), "CONN_MAX_AGE": 0}  # threads under ASGI leak kept ones
if _database["ENGINE"] == "django.db.backends.sqlite3":
    _database["ENGINE"] = "mats_site.sqlite"  # threads write in order of arrival
    _database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",  # read-modify-write under contention without "database is locked"
        "timeout": 20,
        # The engine copies the log into the file every second; a commit does so only from 40 MB on.
        "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;PRAGMA wal_autocheckpoint=10000;",
    }
elif _database["ENGINE"] == "django.db.backends.postgresql":
    _database["OPTIONS"] = {
        "application_name": "mats",
        "connect_timeout": 10,
        # A peer that vanished without a word is noticed in half a minute, not in the two hours of the system's default.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        "options": "-c lock_timeout=20s",  # as long as SQLite waits: whoever holds a lock for longer is stuck
        **_database.get("OPTIONS", {}),
    }
DATABASES = {"default": _database}

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "dashboard"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = MATS.mats_home / "static"
STATICFILES_DIRS = [BASE_DIR / "static", NINJA_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = MATS.https
SECURE_HSTS_SECONDS = 31_536_000 if MATS.https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = MATS.https
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576
SILENCED_SYSTEM_CHECKS: list[str] = []

LOGGING = logging_config(MATS.mats_home, MATS.log_level)
