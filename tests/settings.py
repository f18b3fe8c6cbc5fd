"""Settings of the test run: a throw-away home, file databases, cheap password hashing."""

import os
import tempfile

os.environ.setdefault("MATS_HOME", tempfile.mkdtemp(prefix="mats-test-"))

from mats_site.settings import *  # noqa: F403

DATABASES["default"]["TEST"] = {"NAME": str(MATS.mats_home / "test.sqlite3")}  # noqa: F405
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
