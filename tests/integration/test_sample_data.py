"""The shipped bars in a real ArcticDB."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from portfolio.arctic.client import get_ac
from trading.market.sample_data import LIBRARY, load_sample_bars, read_sample


def test_sample_is_loaded_once_and_reads_back_whole(tmp_path: Path, settings: Any) -> None:

    settings.MATS = dataclasses.replace(settings.MATS, arctic_uri=f"lmdb://{tmp_path / 'arctic'}?map_size=1GB")
    source = read_sample()
    assert load_sample_bars() == {symbol: len(rows) for symbol, rows in source.items()}
    assert load_sample_bars() == {}
    stored = get_ac().read(LIBRARY, "SPY_1_min").data
    assert stored.index.tz is not None
    assert stored["close"].to_list() == source["SPY"]["close"].to_list()


@pytest.mark.parametrize("column", ["open", "high", "low", "close"])
def test_sample_prices_are_positive_and_inside_the_bar(column: str) -> None:
    for rows in read_sample().values():
        assert (rows[column] > 0).all()
        assert (rows["low"] <= rows[column]).all()
        assert (rows[column] <= rows["high"]).all()
