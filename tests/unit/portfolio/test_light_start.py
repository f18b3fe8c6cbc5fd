"""What a process that only serves pages or runs a command loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RESEARCH = ("pandas", "arcticdb", "distributed", "optuna", "numba")
BROKER_AND_WEB = ("twisted", "ninja", "django.test", "exchange_calendars")
SETUP = "import django; django.setup()"


def loaded(code: str, home: Path, names: tuple[str, ...]) -> str:
    """Return which of the names a fresh process has loaded after that code."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "MATS_HOME": str(home)}
    ask = f"import sys; print([name for name in {names!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {ask}"],
        cwd=Path(__file__).parents[3],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "start",
    ["import mats_site.asgi", "from django.urls import get_resolver; get_resolver().url_patterns"],
    ids=["asgi", "urls"],
)
def test_a_web_process_starts_without_the_research_store(start: str, tmp_path: Path) -> None:
    assert loaded(f"{SETUP}; {start}", tmp_path, RESEARCH) == "[]"


def test_a_command_starts_without_what_only_broker_and_web_need(tmp_path: Path) -> None:
    assert loaded(SETUP, tmp_path, (*RESEARCH, *BROKER_AND_WEB)) == "[]"


def test_the_gateway_tells_its_options_without_calendars(tmp_path: Path) -> None:
    start = "import trading.management.commands.run_gateway"
    assert loaded(f"{SETUP}; {start}", tmp_path, (*RESEARCH, *BROKER_AND_WEB)) == "[]"
