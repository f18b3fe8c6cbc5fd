"""SIGKILL at every step of a parcel, and another process that holds the store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.portfolio.parcel_storm import PARCELS, ROWS

ROOT = Path(__file__).resolve().parents[3]
POINTS = ("parcel_file", "parcel_row", "parcel_written", "parcel_marked")


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    home = tmp_path_factory.mktemp("storm")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MATS_", "DATABASE_"))},
        "MATS_HOME": str(home),
        "MATS_ARCTIC_URI": f"lmdb://{home / 'arctic'}?map_size=256MB",
        "DJANGO_SETTINGS_MODULE": "mats_site.settings",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.portfolio.parcel_storm"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.kill
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_step_every_row_is_written_once(storm: dict[str, dict[str, object]], point: str) -> None:
    found = storm[point]
    assert found["killed"]
    assert found["done"]
    assert found["minutes"] == list(range(PARCELS * ROWS))


@pytest.mark.kill
def test_nothing_waits_after_the_storm_and_only_strays_lie_about(storm: dict[str, object]) -> None:
    assert storm["states"] == ["written"]
    left = storm["left"]
    assert isinstance(left, list)
    assert len(left) <= 2  # of those who died between row and removal; the engine sweeps them after an hour
