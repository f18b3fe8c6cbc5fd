"""A bar that passes at the paper gateway does to an order what it does in a backtest: every type, with exits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.bar_series import BarSeries
from strategies.reactive import Signal
from tests.support.backtests import BUY, SELL, scripted
from tests.support.stepped import plain, session_minutes, spec_from, write_bars
from tests.unit.gateway.venue_desk import order
from trading.backtest.engine import run_backtest
from trading.gateway.exchange import Exchange, VenueOptions, build_venue
from trading.gateway.model import CommissionReported, Executed, OrderRequest

DAY, MORROW = date(2020, 1, 2), date(2020, 1, 3)
LATE, EARLY = 18, 2  # minutes before a close and after the next open
LENGTH = LATE + EARLY
WARM = LENGTH // 4  # bars that are the past of a gateway; an order is placed behind the next
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
laws = settings(max_examples=60, deadline=None)
ticks = st.integers(-12, 12)
Fill = tuple[int, str, str, str]


@st.composite
def bars(draw: st.DrawFn) -> BarSeries:
    """Minutes around 100 dollars, in cents, with a night between; they gap now and then."""
    rows, last = [], 10_000
    for _ in range(LENGTH):
        open_ = last + draw(st.sampled_from([0, 0, 0, 1, -1, 5, -5, 9, -9]))
        close = open_ + draw(ticks)
        rows.append((open_, max(open_, close) + draw(st.integers(0, 8)), min(open_, close) - draw(st.integers(0, 8)),
                     close))  # fmt: skip
        last = close
    prices = [np.array(column, dtype=np.float64) / 100 for column in zip(*rows, strict=True)]
    starts = np.concatenate([session_minutes(DAY, 390 - LATE, LATE), session_minutes(MORROW, 0, EARLY)])
    return BarSeries.from_columns("SPY", "1m", starts, [*prices, np.full(LENGTH, 1e6)])


@st.composite
def wishes(draw: st.DrawFn) -> dict[str, Any]:
    """An order of any type, its prices as distances in cents from the last close; perhaps with exits."""
    kind = draw(st.sampled_from(["MKT", "LMT", "STP", "STP LMT", "MIT", "LIT", "TRAIL", "TRAIL LIMIT", "MOC", "LOC"]))
    wish: dict[str, Any] = {"kind": kind, "buys": draw(st.booleans())}
    if kind in ("LMT", "STP LMT", "LIT", "LOC"):
        wish["limit"] = draw(ticks)
    if kind in ("STP", "STP LMT", "MIT", "LIT"):
        wish["stop"] = draw(ticks)
    if kind.startswith("TRAIL"):
        wish["trail"] = draw(st.integers(1, 15))
        wish["offset"] = draw(st.integers(0, 4)) if kind == "TRAIL LIMIT" else None
    elif not kind.endswith("OC"):
        wish["loss"] = draw(st.none() | st.integers(1, 20))
        wish["gain"] = draw(st.none() | st.integers(1, 20))
    tifs = {"MKT": ["DAY", "GTC", "IOC", "FOK", "OPG"], "MOC": ["DAY"]}
    tifs |= {"LMT": tifs["MKT"], "LOC": tifs["MOC"]}
    wish["tif"] = draw(st.sampled_from(tifs.get(kind, ["DAY", "GTC"])))
    return wish


def price(close: float, distance: int | None) -> Decimal | None:
    """Return a price so many cents from a close."""
    return None if distance is None else Decimal(round(close * 100) + distance) / 100


def signal_of(wish: dict[str, Any], close: float) -> Signal:
    """Return a wish as a strategy says it."""
    loss, gain = exits_of(wish, close)
    return Signal(
        "SPY", BUY if wish["buys"] else SELL, 10, order_type=wish["kind"], tif=wish["tif"],
        price=price(close, wish.get("limit")), stop=price(close, wish.get("stop")),
        trail=cents(wish.get("trail")), limit_offset=cents(wish.get("offset")), stop_loss=loss, take_profit=gain,
    )  # fmt: skip


def cents(count: int | None) -> Decimal | None:
    """Return a distance as a price."""
    return None if count is None else Decimal(count) / 100


def exits_of(wish: dict[str, Any], close: float) -> tuple[Decimal | None, Decimal | None]:
    """Return stop loss and take profit, on their sides of the entry's own price."""
    entry = wish.get("stop", wish.get("limit", 0))
    side = 1 if wish["buys"] else -1
    loss, gain = wish.get("loss"), wish.get("gain")
    return (
        None if loss is None else price(close, entry - side * loss),
        None if gain is None else price(close, entry + side * gain),
    )


def requests_of(wish: dict[str, Any], close: float) -> list[OrderRequest]:
    """Return a wish as the engine's broker sends it: an entry, and its exits as children."""
    loss, gain = exits_of(wish, close)
    action, back = ("BUY", "SELL") if wish["buys"] else ("SELL", "BUY")
    fields: dict[str, Any] = {"order_type": wish["kind"], "tif": wish["tif"]}
    if "limit" in wish:
        fields["limit_price"] = price(close, wish["limit"])
    if "stop" in wish:
        fields["aux_price"] = price(close, wish["stop"])
    if "trail" in wish:
        fields["aux_price"] = cents(wish["trail"])
        if wish["offset"] is not None:
            fields["lmtPriceOffset"] = cents(wish["offset"])
    children = [("LMT", "limit_price", gain), ("STP", "aux_price", loss)]
    kept = [child for child in children if child[2] is not None]
    made = [order(1, action, 10, transmit=not kept, **fields)]
    for number, (kind, name, at) in enumerate(kept, start=2):
        child: dict[str, Any] = {"order_type": kind, name: at, "tif": "GTC", "parent_id": 1}
        made.append(order(number, back, 10, transmit=number == len(kept) + 1, **child))
    return made


@contextmanager
def venue_over(series: BarSeries) -> Iterator[Exchange]:
    """A venue that stands behind the past."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_bars(Path(folder) / "bars.parquet", [series])
        options = VenueOptions(market=f"replay:{path}", clock="step", hours="exchange", partial_fills=False)
        exchange = build_venue(options)
    exchange.advance(exchange.market_now(NOW))
    yield exchange
    exchange.close()


def stepped(series: BarSeries, requests: Sequence[OrderRequest]) -> list[Fill]:
    """Place orders behind the first bar that passes, let the others pass; return the fills by minute."""
    fills, fees = [], {}
    with venue_over(series) as exchange:
        for bar in range(WARM, LENGTH):
            _, events = exchange.pass_bar()
            now = exchange.end_bar()
            for event in events:
                if isinstance(event, Executed):
                    fills.append(event.execution)
                elif isinstance(event, CommissionReported):
                    fees[event.commission.exec_id] = event.commission.amount
            if bar == WARM:
                for request in requests:
                    exchange.place(request, now)
    return [
        (
            int(one.time.timestamp()) // 60 * 60,
            plain(one.quantity if one.side == "BOT" else -one.quantity),
            plain(one.price),
            plain(fees[one.exec_id]),
        )
        for one in fills
    ]


@laws
@given(series=bars(), wish=wishes())
def test_an_order_meets_a_bar_at_the_gateway_as_in_a_backtest(series: BarSeries, wish: dict[str, Any]) -> None:
    starts, columns = series.whole()
    close = float(columns[3][WARM])
    entry = scripted("S", [("SPY", "1m")], {WARM: [signal_of(wish, close)]})
    first = datetime.fromtimestamp(int(starts[WARM]) // 1_000_000_000, UTC)
    result = run_backtest(spec_from([entry], [series], first))
    assert not result.strategies["S"].errors
    if any(each.state == "denied" for each in result.orders):
        return  # exits that lie on the wrong side; nothing is sent then
    expected = [
        (fill.time_ns // 1_000_000_000, plain(fill.quantity), plain(fill.price), plain(fill.fee))
        for fill in result.fills
    ]
    assert stepped(series, requests_of(wish, close)) == expected
