"""An engine that is killed inside its check leaves no half of it behind."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings

from portfolio.models import Account, Break
from tests.e2e.engine.harness import DISCRETIONARY, Rig, position, until
from tests.e2e.engine.test_reconciliation import con_id_of, happen, opened, started
from tests.support.database import ledger_url
from trading.models import Alert, EngineEvent

pytestmark = pytest.mark.e2e


def killed_engine(rig: Rig, crash_at: str) -> None:
    """Run an engine process until it kills itself at that point."""
    mats = settings.MATS
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "mats_site.settings",
        "DATABASE_URL": ledger_url(),
        "MATS_IB_PORT": str(mats.ib_port),
        "MATS_ARCTIC_URI": mats.arctic_uri,
        "MATS_STRATEGY_PATH": str(rig.folder),
        "MATS_HOME": str(mats.mats_home),
        "MATS_CRASH_AT": crash_at,
    }
    command = [sys.executable, "manage.py", "run_engine"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.wait(60) == -signal.SIGKILL
        finally:
            process.kill()


def split_behind_the_books(rig: Rig) -> None:
    """Have the broker's position move while no engine runs."""
    engine = started(rig)
    rig.inject("SPY", 10)
    until(lambda: position(DISCRETIONARY, "SPY") == 10)
    engine.cleanup(1.0)

    def _split(venue: Any) -> Any:
        return venue.move_position(con_id_of(venue), Decimal(10))

    happen(rig, _split)


@pytest.mark.timeout(180)
def test_kill_while_a_break_is_opened_opens_it_once_after_the_restart(rig: Rig) -> None:
    split_behind_the_books(rig)
    stopped_at = datetime.now(UTC)
    # The point is passed with every look at positions, at most six, and then where their breaks are recorded.
    killed_engine(rig, "reconcile:7")
    assert opened("position") is None
    assert not Alert.objects.filter(key__startswith="break:").exists()
    reconciled_at = Account.objects.get().reconciled_at
    assert reconciled_at is not None
    assert reconciled_at < stopped_at
    started(rig)
    row = until(lambda: opened("position"), what="break after the restart")
    assert (row.ib_quantity, row.ledger_quantity) == (20, 10)
    assert Break.objects.filter(kind="position").count() == 1
    assert EngineEvent.objects.filter(kind="break", payload__kind="position").count() == 1
    assert position(DISCRETIONARY, "SPY") == 10
