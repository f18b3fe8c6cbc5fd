"""What cannot be run is refused before the first bar, with the place and the reason."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest

from strategies.bar_series import BarSeries
from strategies.exceptions import ConfigError
from tests.support.backtests import FREE, D, days, flat, minutes, scripted, series, spec_of
from trading.backtest.contracts import BacktestSpec, InstrumentTerms, Models, NoFees, StrategyEntry
from trading.backtest.engine import run_backtest

ROWS = [flat(100)] * 5
NO_STRATEGY = [scripted("S", [("X", "1d")], {})]


def refused(spec: BacktestSpec, code: str, *parts: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_backtest(spec)
    assert caught.value.code == code
    for part in parts:
        assert part in caught.value.message


def starts() -> list[int]:
    found: list[int] = days("X", ROWS).whole()[0].tolist()
    return found


@pytest.mark.parametrize(
    ("order", "text"),
    [([0, 2, 1, 3, 4], "(row 2) does not come after the bar before it"), ([0, 1, 1, 3, 4], "(row 2) is there twice")],
)
def test_unsorted_and_doubled_bars(order: list[int], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        series("X", "1d", [starts()[n] for n in order], ROWS)
    assert text in caught.value.message


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bars_with_unset_numbers(place: int, value: float) -> None:
    row = list(flat(100))
    row[place] = value
    with pytest.raises(ConfigError) as caught:
        series("X", "1d", starts(), [flat(100), flat(100), tuple(row), flat(100), flat(100)])  # type: ignore[list-item]
    assert "2024-01-04" in caught.value.message
    assert "row 2" in caught.value.message


def test_a_period_without_zone_or_the_wrong_way_round() -> None:
    bars = [days("X", ROWS)]
    refused(spec_of(NO_STRATEGY, bars, start=datetime(2024, 1, 1)), "naive_time", "no time zone")  # noqa: DTZ001
    early, late = datetime(2024, 1, 3, tzinfo=UTC), datetime(2024, 1, 5, tzinfo=UTC)
    refused(spec_of(NO_STRATEGY, bars, start=late, end=early), "bad_period", "2024-01-05", "2024-01-03")


def test_a_period_without_bars() -> None:
    first, last = datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
    refused(spec_of(NO_STRATEGY, [days("X", ROWS)], start=first, end=last), "no_bars", "2030-01-01", "2031-01-01")
    refused(spec_of(NO_STRATEGY, []), "no_bars")
    refused(spec_of(NO_STRATEGY, [series("X", "1d", [], [])]), "no_bars", "X 1d has no bars")


@pytest.mark.parametrize("interval", ["1h", "tick", "5", "0m", "", "1M", "quotes"])
def test_an_unknown_interval(interval: str) -> None:
    bars = series("X", interval, starts(), ROWS)
    refused(spec_of([], [bars]), "unknown_interval", f"«{interval}»")


def test_a_subscription_to_what_is_not_there() -> None:
    entry = scripted("S", [("X", "1d"), ("Y", "1d")], {})
    refused(spec_of([entry], [days("X", ROWS)]), "no_bars", "S subscribes to Y 1d")


def test_a_longer_interval_that_cannot_be_made() -> None:
    refused(spec_of([scripted("S", [("X", "7m")], {})], [days("X", ROWS)]), "not_derivable", "7m", "1d")


def test_bars_under_another_name() -> None:
    spec = BacktestSpec([], {("Y", "1d"): days("X", ROWS)}, *_year(), models=FREE)
    refused(spec, "bad_bars", "Y 1d", "X 1d")


def _year() -> tuple[datetime, datetime]:
    return datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)


def test_a_daily_bar_of_a_day_without_trading() -> None:
    holiday = [*starts()[:3], int(np.datetime64("2024-01-15", "ns").astype(np.int64))]
    refused(spec_of([], [series("X", "1d", holiday, ROWS[:4])]), "no_session", "2024-01-15", "row 3", "US_EQUITY")


def test_two_bars_for_one_period() -> None:
    midnight, open_ = starts()[0], int(minutes("X", ROWS).whole()[0][0])
    refused(spec_of([], [series("X", "1d", [midnight, open_], ROWS[:2])]), "bad_bars", "row 1", "two bars")


def test_an_exchange_that_nobody_knows() -> None:
    terms = {"X": InstrumentTerms("X", exchange="MARS")}
    refused(spec_of([], [days("X", ROWS)], instruments=terms), "unknown_exchange", "MARS")


def test_what_is_no_strategy() -> None:
    bars = [days("X", ROWS)]
    refused(
        spec_of([StrategyEntry("S", "reactive", lambda name, config: object(), {}, D(1))], bars),
        "bad_strategy",
        "object",
    )


@pytest.mark.parametrize(
    ("models", "text"),
    [
        ({"participation": D(0)}, "participation"),
        ({"participation": D("1.5")}, "participation"),
        ({"half_spread": D("-0.01")}, "half_spread"),
        ({"half_spread": D("NaN")}, "half_spread"),
    ],
)
def test_models_that_mean_nothing(models: dict[str, Any], text: str) -> None:
    refused(spec_of([], [days("X", ROWS)], Models(fees=NoFees(), **models)), "bad_models", text)


@pytest.mark.parametrize("terms", [{"multiplier": D(0)}, {"lot": D(-1)}, {"tick": D(0)}, {"lot": D("NaN")}])
def test_terms_of_instruments_that_mean_nothing(terms: dict[str, Any]) -> None:
    spec = spec_of([], [days("X", ROWS)], instruments={"X": InstrumentTerms("X", **terms)})
    refused(spec, "bad_terms", "X", next(iter(terms)))


@pytest.mark.parametrize("config", [{"position_size": "much"}, {"max_position_size": -1}, {"max_quantity": True}])
def test_gates_that_mean_nothing(config: dict[str, Any]) -> None:
    refused(spec_of([scripted("S", [("X", "1d")], {}, **config)], [days("X", ROWS)]), "bad_gates", next(iter(config)))


def test_cash_that_is_no_number() -> None:
    for cash in ("NaN", "-1"):
        refused(spec_of([scripted("S", [("X", "1d")], {}, cash=cash)], [days("X", ROWS)]), "bad_cash", "S")


def test_a_price_of_zero_or_below_is_refused_where_nothing_else_is_said() -> None:
    """A stock has a price; a source that writes 0 for «none» would give shares away."""
    bars = days("X", [flat(100), flat(0), flat(100)])
    refused(spec_of([], [bars]), "bad_bars", "X 1d", "2024-01-03", "row 1")


def test_bars_that_grew_one_by_one_run_as_well() -> None:
    grown, laid = BarSeries("X", "1d"), days("X", ROWS, first=date(2024, 1, 2))
    laid.count = 5
    for bar in laid:
        grown.append(bar)
    result = run_backtest(spec_of(NO_STRATEGY, [grown]))
    assert result.bars == 5
