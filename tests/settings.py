"""Settings of the test run: a throw-away home, cheap password hashing, the ledger where DATABASE_URL says.

Without one that is SQLite in a file; on a PostgreSQL server Django makes databases named ``test_…`` of its own.
"""

import os
import tempfile

os.environ.setdefault("MATS_HOME", tempfile.mkdtemp(prefix="mats-test-"))

from mats_site.settings import *  # noqa: F403

if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":  # noqa: F405
    DATABASES["default"]["TEST"] = {"NAME": str(MATS.mats_home / "test.sqlite3")}  # noqa: F405
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
