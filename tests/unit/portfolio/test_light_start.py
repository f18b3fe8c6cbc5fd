"""What a process that only serves pages or runs a command loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("pandas", "arcticdb", "distributed", "optuna", "numba")
ASK = f"import sys; print([name for name in {HEAVY!r} if name in sys.modules])"


@pytest.mark.parametrize(
    "start",
    ["import mats_site.asgi", "from django.urls import get_resolver; get_resolver().url_patterns"],
    ids=["asgi", "urls"],
)
def test_a_web_process_starts_without_the_research_store(start: str, tmp_path: Path) -> None:
    code = f"import django; django.setup(); {start}; {ASK}"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "MATS_HOME": str(tmp_path)}
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
