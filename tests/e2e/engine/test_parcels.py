"""While an engine runs it alone writes ArcticDB: what others hand over it writes, and says what it cannot."""

from __future__ import annotations

import threading
from typing import Any

import pandas as pd
import pytest

from portfolio.arctic.client import get_ac
from portfolio.arctic.lock import ArcticBusyError
from portfolio.arctic.parcels import deliver, drain_if_free, submit
from portfolio.models import ArcticParcel
from portfolio.models.stores import ParcelState
from strategies.exceptions import ConflictError
from strategies.series_names import Listing
from tests.e2e.engine.harness import Rig, until
from trading.market.adjustments import action_frame
from trading.market.ingest_store import store_actions, store_bars
from trading.models import Alert

AAPL = Listing(265598, "AAPL", "STK", "USD")
pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _own_home(mats_settings: Any, tmp_path: Any) -> None:
    import dataclasses

    mats_settings.MATS = dataclasses.replace(mats_settings.MATS, mats_home=tmp_path)


def bars(count: int, first: int = 0, close: float = 1.0) -> pd.DataFrame:
    start = pd.Timestamp("2026-03-02T14:30Z") + pd.Timedelta(minutes=first)
    index = pd.date_range(start, periods=count, freq="1min", name="ts").as_unit("ns")
    return pd.DataFrame(dict.fromkeys(("open", "high", "low", "close", "volume"), close), index=index)


def test_engine_writes_what_is_handed_over(rig: Rig) -> None:
    rig.engine()
    with pytest.raises(ArcticBusyError):
        drain_if_free()
    put = store_bars("AAPL", "1_min", bars(5), {}, source="test", timeout_s=30.0)
    assert (put.new, put.version) == (5, 0)
    store_actions("AAPL", action_frame({pd.Timestamp("2026-03-02").date(): 2.0}, {}, "test"), source="test")
    assert len(get_ac().read("market_data", "AAPL_1_min").data) == 5
    assert len(get_ac().read("market_data", "AAPL_actions").data) == 1


def test_engine_that_starts_takes_what_waits(rig: Rig) -> None:
    parcel = submit("univ", "x", pd.DataFrame({"Symbol": ["A"]}), mode="write", source="test")
    rig.engine()
    until(lambda: ArcticParcel.objects.filter(pk=parcel.pk, state=ParcelState.WRITTEN).exists(), 30.0, "written")


def test_refused_parcel_raises_an_alert_that_names_the_reason(rig: Rig) -> None:
    rig.engine()
    store_bars("AAPL", "1_min", bars(5), {}, source="test", timeout_s=30.0)
    bad = submit("market_data", "AAPL_1_min", bars(2), mode="append", source="test")
    with pytest.raises(ConflictError, match="nothing is written twice"):
        deliver(bad, 30.0)
    alert = until(lambda: Alert.objects.filter(key="parcel:market_data/AAPL_1_min").first(), 10.0, "the alert")
    assert "nothing is written twice" in alert.text


def test_bars_that_a_strategy_asked_for_are_stored(rig: Rig) -> None:
    engine = rig.engine()
    thread = threading.Thread(target=engine.keep_bars, args=("AAPL", "1_min", bars(3), True, None, AAPL))
    thread.start()
    thread.join(10)
    until(lambda: get_ac().has_symbol("market_data", "AAPL_1_min"), 30.0, "the bars")
    engine.keep_bars("AAPL", "1_min", bars(4, first=1), True, bars(3).index[-1].to_pydatetime(), AAPL)
    until(lambda: get_ac().row_count("market_data", "AAPL_1_min") == 5, 30.0, "the tail")
    said = get_ac().metadata("market_data", "AAPL_1_min")
    assert (said["use_rth"], said["con_id"]) == (True, 265598)
