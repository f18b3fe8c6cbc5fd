"""The engine's rig with a gateway that causes trouble, and lines that come back without the patience of real life."""

from __future__ import annotations

import pytest

from tests.e2e.engine.conftest import gateway, mats_settings, rig
from trading.engine import session
from trading.ib import connection

__all__ = ["gateway", "mats_settings", "rig"]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again after tenths of a second."""
    monkeypatch.setattr(connection, "BACKOFF_FIRST_S", 0.05)
    monkeypatch.setattr(connection, "BACKOFF_MAX_S", 0.2)
    monkeypatch.setattr(session, "RETRY_S", 0.1)
