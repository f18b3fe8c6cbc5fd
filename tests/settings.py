"""Settings of the test run: a throw-away home, cheap password hashing, no fsync, the ledger where DATABASE_URL says.

Without one that is SQLite in a file; on a PostgreSQL server Django makes databases named ``test_…`` of its own.
"""

import os
import tempfile

_home = os.environ.setdefault("MATS_HOME", tempfile.mkdtemp(prefix="mats-test-"))
_worker = os.environ.get("PYTEST_XDIST_WORKER", "")
if _worker and os.path.basename(_home) != _worker:  # each its own: a halt file halts every engine of its home
    os.environ["MATS_HOME"] = os.path.join(_home, _worker)

from mats_site.settings import *  # noqa: E402, F403

if DATABASES["default"]["ENGINE"] == "mats_site.sqlite":  # noqa: F405
    DATABASES["default"]["TEST"] = {"NAME": str(MATS.mats_home / "test.sqlite3")}  # noqa: F405
    # What a killed process committed the system has without fsync, for twenty of which each test that empties the
    # database would wait. The proof of power loss runs on the settings of MATS itself.
    _options = DATABASES["default"]["OPTIONS"]  # noqa: F405
    _options["init_command"] = _options["init_command"].replace("synchronous=FULL", "synchronous=OFF")
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
