"""A running engine keeps the books of the hour by itself, once."""

from __future__ import annotations

import pytest

from portfolio.models import Account, HourlySnapshot
from tests.e2e.engine.harness import Rig, until

pytestmark = pytest.mark.e2e


def test_an_engine_keeps_the_running_hour_with_ibs_figures(rig: Rig) -> None:
    rig.engine()
    until(lambda: HourlySnapshot.objects.filter(owner="").exists(), 20.0)
    row = HourlySnapshot.objects.filter(owner="").earliest("hour")
    assert row.equity is not None
    assert row.figures["buying_power"] is not None
    assert row.taken_at >= row.hour
    assert Account.objects.get().reconciled_at is not None
