"""The engine's rig over the replayed sample, as a first start has it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.engine.conftest import mats_settings, rig
from trading.gateway.testing import RunningGateway, running_gateway

__all__ = ["mats_settings", "rig"]


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    """A paper gateway that replays the shipped minute bars, a minute per second."""
    with running_gateway(market="replay:sample", speed=60, commission_delay_s=0.02) as running:
        yield running
