"""Quotes and history: the same path at every resolution, IB's words, clocks and hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.exceptions import ConfigError
from tests.unit.gateway.venue_desk import AAPL_ID, EURUSD_ID, SECOND, SPY_ID, START, venue
from trading.gateway.exchange import Exchange, VenueOptions, build_venue
from trading.gateway.market_bars import BAR_SIZES
from trading.gateway.market_source import SAMPLE
from trading.gateway.model import Bar, RequestError

SPX_ID = 416904


def history(
    exchange: Exchange,
    duration: str,
    bar_size: str,
    *,
    con_id: int = SPY_ID,
    what: str = "TRADES",
    now: datetime = START,
    use_rth: bool = False,
) -> list[Bar]:
    return list(
        exchange.bars(con_id, end=now, duration=duration, bar_size=bar_size, what=what, use_rth=use_rth, now=now)
    )


@pytest.fixture(scope="module")
def replayed() -> Exchange:
    return venue()


@pytest.fixture(scope="module")
def generated() -> Exchange:
    return venue(market="synthetic", speed=1)


@settings(max_examples=60, deadline=None)
@given(seconds=st.floats(0.001, 40_000), back=st.sampled_from(["1 secs", "5 secs", "1 min", "5 mins", "1 hour"]))
def test_a_quote_lies_within_the_bar_of_its_moment(replayed: Exchange, seconds: float, back: str) -> None:
    moment = START + timedelta(seconds=seconds)
    quote = replayed.quote(SPY_ID, moment)
    later = moment + timedelta(seconds=BAR_SIZES[back])
    bar = next(b for b in reversed(history(replayed, "7200 S", back, now=later)) if b.start <= moment)
    assert quote.last is not None
    assert bar.low <= quote.last <= bar.high
    assert quote.bid is not None
    assert quote.ask is not None
    assert quote.bid < quote.ask
    assert quote.bid <= quote.last <= quote.ask


@pytest.mark.parametrize(
    ("fine", "coarse"),
    [("1 secs", "5 secs"), ("5 secs", "1 min"), ("1 min", "5 mins"), ("5 mins", "1 hour"), ("1 hour", "1 day")],
)
@pytest.mark.parametrize("source", ["replayed", "generated"])
def test_fine_bars_add_up_to_coarse_ones(fine: str, coarse: str, source: str, request: pytest.FixtureRequest) -> None:
    exchange: Exchange = request.getfixturevalue(source)
    now = datetime(2026, 11, 18, 5, 0, tzinfo=UTC)  # midnight in New York: every size ends here
    span = {"1 secs": "1800 S", "5 secs": "7200 S", "1 min": "1 D", "5 mins": "1 D", "1 hour": "3 D"}[fine]
    small, large = history(exchange, span, fine, now=now), history(exchange, span, coarse, now=now)
    assert len(large) >= 1
    checked = 0
    for bar in large:
        end = bar.start + timedelta(seconds=BAR_SIZES[coarse])
        parts = [b for b in small if bar.start <= b.start < end]
        if not parts or parts[0].start != bar.start:
            continue
        checked += 1
        assert (bar.open, bar.close) == (parts[0].open, parts[-1].close)
        assert bar.high == max(b.high for b in parts)
        assert bar.low == min(b.low for b in parts)
        assert bar.volume == sum(b.volume for b in parts)
    assert checked


@pytest.mark.parametrize("bar_size", BAR_SIZES)
def test_every_bar_size_answers_with_sound_bars(replayed: Exchange, bar_size: str) -> None:
    seconds = BAR_SIZES[bar_size]
    duration = "600 S" if seconds <= 30 else "2 D" if seconds <= 28_800 else "1 Y"
    bars = history(replayed, duration, bar_size)
    starts = [b.start for b in bars]
    assert starts == sorted(set(starts))
    assert all(b.low <= min(b.open, b.close) and b.high >= max(b.open, b.close) for b in bars)
    assert all(b.low <= b.wap <= b.high and b.volume >= 0 and b.count >= 0 for b in bars)
    assert bars[-1].start < START <= bars[-1].start + timedelta(seconds=seconds)


def test_history_does_not_change_when_it_is_asked_for_later(replayed: Exchange) -> None:
    first = history(replayed, "3600 S", "1 min")
    again = {b.start: b for b in history(replayed, "7200 S", "1 min", now=START + 1000 * SECOND)}
    assert [again[b.start] for b in first[1:-1]] == first[1:-1]


def test_five_second_bars_are_those_of_history(replayed: Exchange) -> None:
    now = START + 42 * SECOND
    closed = [b for b in history(replayed, "60 S", "5 secs", now=now) if b.start + 5 * SECOND <= now]
    assert replayed.latest_bar(SPY_ID, seconds=5, what="TRADES", now=now) == closed[-1]


def test_sixty_times_the_speed_puts_an_hour_into_a_minute() -> None:
    slow, fast = venue(speed=1), venue(speed=60)
    begin = START.replace(second=0)
    hour = history(slow, "7200 S", "1 hour", now=begin + timedelta(hours=1))
    minute = history(fast, "120 S", "1 min", now=begin + timedelta(minutes=1))
    slow_hour = slow.bars(
        SPY_ID,
        end=begin + timedelta(hours=1),
        duration="3600 S",
        bar_size="30 mins",
        what="TRADES",
        use_rth=False,
        now=begin + timedelta(hours=1),
    )
    halves = [b for b in slow_hour if b.start >= begin]
    assert minute[-1].open == halves[0].open
    assert minute[-1].high == max(b.high for b in halves)
    assert minute[-1].volume == sum(b.volume for b in halves)
    assert hour


def test_midpoint_bars_have_no_volume_and_lie_between_bid_and_ask(replayed: Exchange) -> None:
    mid, bid, ask = (history(replayed, "600 S", "30 secs", what=what) for what in ("MIDPOINT", "BID", "ASK"))
    assert {(b.volume, b.wap, b.count) for b in mid} == {(Decimal(-1), Decimal(-1), -1)}
    for m, b, a in zip(mid, bid, ask, strict=True):
        assert m.close == (b.close + a.close) / 2
        assert b.high < a.high


def test_forex_has_quotes_and_no_trades(replayed: Exchange) -> None:
    assert history(replayed, "60 S", "5 secs", con_id=EURUSD_ID, what="MIDPOINT")
    with pytest.raises(RequestError) as refused:
        history(replayed, "60 S", "5 secs", con_id=EURUSD_ID)
    assert refused.value.code == 162


def test_an_index_has_no_bid(replayed: Exchange) -> None:
    quote = replayed.quote(SPX_ID, START)
    assert (quote.bid, quote.ask) == (None, None)
    assert quote.last is not None
    assert quote.volume == 0


@pytest.mark.parametrize(
    ("duration", "bar_size", "what", "code"),
    [
        ("1 D", "7 mins", "TRADES", 321),
        ("1 X", "1 min", "TRADES", 321),
        ("0 D", "1 min", "TRADES", 321),
        ("90000 S", "1 min", "TRADES", 321),
        ("400 D", "1 day", "TRADES", 321),
        ("60 S", "1 day", "TRADES", 321),
        ("1 D", "1 min", "GOSSIP", 321),
        ("1 Y", "1 secs", "TRADES", 162),
    ],
)
def test_bad_history_requests_get_ibs_code(
    replayed: Exchange, duration: str, bar_size: str, what: str, code: int
) -> None:
    with pytest.raises(RequestError) as refused:
        history(replayed, duration, bar_size, what=what)
    assert refused.value.code == code


def test_history_before_its_beginning_is_no_data(replayed: Exchange) -> None:
    with pytest.raises(RequestError, match="no data") as refused:
        replayed.bars(
            SPY_ID,
            end=datetime(1999, 1, 1, tzinfo=UTC),
            duration="1 D",
            bar_size="1 min",
            what="TRADES",
            use_rth=True,
            now=START,
        )
    assert refused.value.code == 162


def test_unknown_instruments_are_error_200(replayed: Exchange) -> None:
    with pytest.raises(RequestError) as refused:
        replayed.quote(1, START)
    assert refused.value.code == 200


def test_day_figures_of_a_quote_are_those_of_the_day_bar(replayed: Exchange) -> None:
    moment = START + 777 * SECOND
    replayed.quote(SPY_ID, START + 333 * SECOND)
    quote, day = replayed.quote(SPY_ID, moment), history(replayed, "1 D", "1 day", now=moment)[-1]
    assert (quote.open, quote.high, quote.low, quote.volume) == (day.open, day.high, day.low, day.volume)


def test_the_generator_depends_on_seed_and_symbol_alone() -> None:
    prices = {seed: venue(market="synthetic", seed=seed).quote(AAPL_ID, START + SECOND).last for seed in (7, 8)}
    again = venue(market="synthetic", seed=7).quote(AAPL_ID, START + SECOND).last
    assert again == prices[7] != prices[8]


def test_instruments_without_bars_are_generated_at_their_reference_price(replayed: Exchange) -> None:
    quote = replayed.quote(AAPL_ID, START)
    assert quote.last is not None
    assert 180 < quote.last < 290


def test_the_replay_clock_tells_the_bars_as_they_are() -> None:
    exchange = build_venue(VenueOptions(clock="replay"))
    now = exchange.market_now(START)
    exchange.advance(now)
    assert datetime(2019, 12, 16, tzinfo=UTC) < now < datetime(2020, 1, 17, tzinfo=UTC)
    table = pq.read_table(SAMPLE).to_pylist()
    real = {r["ts"].to_pydatetime(): r for r in table if r["symbol"] == "SPY"}
    bars = history(exchange, "1 D", "1 min", now=now)[:-1]
    assert len(bars) > 20
    for bar in bars:
        row = real[bar.start]
        assert [float(v) for v in (bar.open, bar.high, bar.low, bar.close, bar.volume)] == pytest.approx(
            [row[c] for c in ("open", "high", "low", "close", "volume")], abs=0.006
        )


def test_the_replay_clock_runs_at_its_speed_and_skips_the_night() -> None:
    exchange = build_venue(VenueOptions(clock="replay", speed=60))
    first = exchange.market_now(START)
    assert exchange.market_now(START + SECOND) - first == timedelta(minutes=1)
    a_day = exchange.market_now(START + timedelta(seconds=390))
    assert a_day.date() > first.date()


def test_exchange_hours_stop_the_market_at_night() -> None:
    exchange = venue(hours="exchange", speed=1)
    night, later = START.replace(hour=4), START.replace(hour=6)
    assert exchange.quote(SPY_ID, night).bid is None
    assert exchange.quote(SPY_ID, night).last == exchange.quote(SPY_ID, later).last
    assert exchange.latest_bar(SPY_ID, seconds=5, what="TRADES", now=night) is None
    assert exchange.quote(SPY_ID, START).bid is not None


def test_regular_hours_leave_out_the_rest() -> None:
    exchange = venue(hours="exchange", speed=1)
    now = START.replace(hour=23, minute=0, second=0)
    regular = history(exchange, "1 D", "1 min", now=now, use_rth=True)
    everything = history(exchange, "1 D", "1 min", now=now)
    assert len(regular) == 390
    assert len(everything) == 14 * 60  # 04:00 to 18:00 New York
    assert regular[0].start.hour == 14
    assert regular[0].start.minute == 30
    assert set(regular) <= set(everything)
    hours = history(exchange, "1 D", "1 hour", now=now, use_rth=True)
    assert [b.start.minute for b in hours] == [30, 0, 0, 0, 0, 0, 0]


def write_bars(path: Path, **columns: object) -> Path:
    stamps = [datetime(2024, 1, 2, 14, 30 + i, tzinfo=UTC) for i in range(3)]
    rows: dict[str, object] = {
        "symbol": ["ZZZ"] * 3,
        "ts": pa.array(stamps, pa.timestamp("us", "UTC")),
        "open": [1.0, 2.0, 3.0],
        "high": [2.0, 3.0, 4.0],
        "low": [1.0, 2.0, 3.0],
        "close": [2.0, 3.0, 4.0],
        "volume": [10.0, 20.0, 30.0],
    }
    pq.write_table(pa.table({**rows, **columns}), path)
    return path


def test_a_users_own_bars_are_replayed(tmp_path: Path) -> None:
    path = write_bars(tmp_path / "bars.parquet", symbol=["AAPL"] * 3)
    exchange = venue(market=f"replay:{path}", speed=1)
    bars = history(exchange, "300 S", "1 min", con_id=AAPL_ID)
    assert {b.high for b in bars[1:-1]} <= {Decimal(2), Decimal(3), Decimal(4)}


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"high": [1.5, 3.0, 4.0]}, "high below"),
        ({"low": [0.0, 2.0, 3.0]}, "not above zero"),
        ({"close": [float("nan"), 3.0, 4.0]}, "unset number"),
        ({"volume": [-1.0, 3.0, 4.0]}, "negative volume"),
        ({"ts": pa.array([datetime(2024, 1, 2, tzinfo=UTC)] * 3, pa.timestamp("us", "UTC"))}, "two bars"),
        ({"ts": pa.array(np.arange(3), pa.timestamp("us"))}, "time zone"),
    ],
)
def test_bars_that_no_market_prints_are_refused(tmp_path: Path, columns: dict[str, object], problem: str) -> None:
    path = write_bars(tmp_path / "bars.parquet", **columns)
    with pytest.raises(ConfigError, match=problem):
        build_venue(VenueOptions(market=f"replay:{path}"))


@pytest.mark.parametrize("market", ["replay:", "casino", "replay:/nowhere/bars.parquet"])
def test_unknown_markets_are_refused(market: str) -> None:
    with pytest.raises(ConfigError):
        build_venue(VenueOptions(market=market))


@pytest.mark.parametrize("options", [{"speed": 0}, {"clock": "sun"}, {"hours": "never"}, {"commission_delay_s": -1}])
def test_unusable_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        build_venue(VenueOptions(**options))  # type: ignore[arg-type]
