"""SIGKILL in the middle of the projection: nothing lost, nothing doubled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.kill
@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.proof)])
def test_killed_writers_lose_and_double_nothing(tmp_path: Path, kills: int) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MATS_", "DATABASE_"))},
        "MATS_HOME": str(tmp_path),
        "MATS_ARCTIC_URI": f"lmdb://{tmp_path / 'arctic'}?map_size=256MB",
        "DJANGO_SETTINGS_MODULE": "mats_site.settings",
    }
    storm = subprocess.run(
        [sys.executable, "-m", "tests.unit.portfolio.arctic_storm", str(kills), "7"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert storm.returncode == 0, storm.stderr
    found = json.loads(storm.stdout)
    assert found["killed"] == kills
    assert len(found["ledger"]) >= kills * 40
    assert found["arctic"] == found["ledger"]
    assert found["increasing"]
