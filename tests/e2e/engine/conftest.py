"""Fixtures of the engine's scenarios: settings of their own, a gateway, and engines that are always stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from tests.e2e.engine.harness import Rig
from tests.support.limits import lift_limits
from trading.gateway.testing import RunningGateway, running_gateway
from trading.orders.services import owners


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    """A paper gateway with a seeded market, calm enough for exact figures."""
    with running_gateway(market="synthetic", seed=7, commission_delay_s=0.02) as running:
        yield running


@pytest.fixture
def mats_settings(settings: Any, tmp_path: Path, free_port: int) -> Any:
    """The engine's settings for one test: own folders, short times, a port where nobody listens."""
    folder = tmp_path / "strategies"
    folder.mkdir()
    settings.MATS = dataclasses.replace(
        settings.MATS,
        strategy_path=(folder,),
        ib_port=free_port,
        arctic_uri=f"lmdb://{tmp_path / 'arctic'}?map_size=64MB",
        stop_timeout_s=3.0,
        equity_interval_s=0.5,
        ib_connect_timeout_s=3.0,
        margin_every_s=0,  # else the master asks on its own, between what tests count
    )
    return settings


@pytest.fixture
def rig(transactional_db: None, mats_settings: Any, gateway: RunningGateway) -> Iterator[Rig]:
    """Gateway and strategy folder; every engine that the test started is stopped afterwards."""
    owners.forget()
    lift_limits()
    mats_settings.MATS = dataclasses.replace(mats_settings.MATS, ib_port=gateway.port)
    made = Rig(gateway, mats_settings.MATS.strategy_path[0])
    yield made
    for engine in made.engines:
        engine.cleanup(1.0)
    connections.close_all()
