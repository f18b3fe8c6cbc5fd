"""Universes of scanners: symbols as written, and those of stored tables."""

from __future__ import annotations

import pandas as pd
import pytest

from portfolio.arctic.client import ArcticClient
from strategies.exceptions import ConfigError, NotFoundError
from tests.unit.market.test_scanner_manager import Finder, Host, planned
from trading.market.scanners.manager import ScannerManager, ScanRecord
from trading.market.scanners.members import members_of
from trading.market.universe import store_universe

pytestmark = pytest.mark.django_db(transaction=True)


def store_big(count: int = 3) -> None:
    symbols = ["AAPL", "MSFT", *(f"X{number}" for number in range(count - 2))]
    store_universe("univ", "big", pd.DataFrame({"Symbol": symbols}), source="test")


def test_stored_universe_and_written_symbols_come_together_each_once(store: ArcticClient) -> None:
    store_big()
    assert members_of(["SPY", "univ/big", "AAPL"]) == ["SPY", "AAPL", "MSFT", "X0"]
    assert members_of(["B", "A", "B"]) == ["B", "A"]


def test_universe_that_is_not_there_or_too_large_is_refused(store: ArcticClient) -> None:
    with pytest.raises(NotFoundError, match="no universe univ/none"):
        members_of(["univ/none"])
    store_big(2_001)
    with pytest.raises(NotFoundError, match="no universe univ/none"):  # the library is there now
        members_of(["univ/none"])
    with pytest.raises(ConfigError, match=r"2,000 symbols at most, not at 2,001"):
        members_of(["univ/big"])


def test_scanner_looks_at_what_is_stored_and_one_without_its_universe_is_in_error_alone(store: ArcticClient) -> None:
    store_big()
    host, records = Host(), list[ScanRecord]()
    manager = ScannerManager(host, records.append, in_background=False)
    manager.begin_day([planned(Finder(["univ/none"]), name="lost"), planned(Finder(["univ/big"], ["MSFT"]))])
    lost, found = manager.status()
    assert (lost["state"], found["state"]) == ("error", "setup_complete")
    assert "univ/none" in lost["error"]
    assert found["universe"] == 3
