"""Indicators: their definitions by hand and by TA-Lib, warm-up, sessions, requests, views, the page that lists them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import talib

from strategies.bar_series import Bar, BarSeries, Floats
from strategies.exceptions import ConfigError
from strategies.intervals import parse_interval
from tests.support.minutes import (
    BLACK_FRIDAY,
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    at,
    bar,
    columns_of,
    minutes,
    series_of,
    table,
)
from trading.market.indicators.indicator import Indicator, Run
from trading.market.indicators.registry import REGISTRY, check_unique, make_request, markdown_table

ROOT = Path(__file__).resolve().parents[3]
LISTED = {
    "trend": "sma ema wma dema tema hma vwap twap",
    "momentum": "rsi macd stochastic cci roc mom williams_r ultimate_osc",
    "volatility": "atr bbands keltner donchian stddev histvol",
    "volume": "obv pvt volume_sma volume_ratio",
    "support": "pivot_points high_low swing_high swing_low",
    "historical": "avg_volume avg_range atr_daily gap_stats range_ratio trailing_average trailing_max trailing_min",
}
LATE = {"pivot_points", "swing_high", "swing_low", "trailing_average", "trailing_max", "trailing_min"}
"""Those whose first value comes with a day, or a turning point."""


def prices(n: int = 120, seed: int = 7) -> list[Bar]:
    """Minutes of a Tuesday that go somewhere."""
    random = np.random.default_rng(seed)
    closes = (100 + np.cumsum(random.normal(size=n))).round(2)
    found = []
    for place, close in enumerate(closes.tolist()):
        before = closes[place - 1] if place else close
        high, low = max(before, close) + random.integers(0, 40) / 100, min(before, close) - random.integers(0, 40) / 100
        found.append(
            Bar(
                at(TUESDAY, 9, 30) + place * 60_000_000_000,
                float(before),
                high,
                low,
                close,
                float(random.integers(1, 999)),
            )
        )
    return found


def values(name: str, bars: Sequence[Bar], period: int = 0, interval: str = "1m", **params: Any) -> tuple[Floats, ...]:
    """Every output over bars."""
    return Run(make_request(name, interval, period, params)).whole(*columns_of(bars), table())


def last(name: str, bars: Sequence[Bar], period: int = 0, interval: str = "1m", **params: Any) -> list[float]:
    return [float(one[-1]) for one in values(name, bars, period, interval, **params)]


BARS = prices()
OPEN, HIGH, LOW, CLOSE, VOLUME = columns_of(BARS)[1]


class TestDefinitions:
    """Against plain arithmetic on the last bars, or the field's library where its definition is meant."""

    def test_averages(self) -> None:
        closes = CLOSE.tolist()
        assert last("sma", BARS, 10) == [pytest.approx(sum(closes[-10:]) / 10)]
        ema = sum(closes[:10]) / 10
        for close in closes[10:]:
            ema += (close - ema) * 2 / 11
        assert last("ema", BARS, 10) == [pytest.approx(ema)]
        weighted = sum(weight * close for weight, close in enumerate(closes[-10:], 1)) / 55
        assert last("wma", BARS, 10) == [pytest.approx(weighted)]
        once = talib.EMA(CLOSE, 5)
        twice = talib.EMA(once, 5)
        thrice = talib.EMA(twice, 5)
        assert last("dema", BARS, 5) == [pytest.approx(2 * once[-1] - twice[-1])]
        assert last("tema", BARS, 5) == [pytest.approx(3 * once[-1] - 3 * twice[-1] + thrice[-1])]
        raw = 2 * talib.WMA(CLOSE, 4) - talib.WMA(CLOSE, 9)
        assert last("hma", BARS, 9) == [pytest.approx(talib.WMA(raw, 3)[-1])]

    def test_rsi_is_the_plain_average_of_the_last_changes(self) -> None:
        changes = np.diff(CLOSE)[-14:]
        gains, losses = changes[changes > 0].sum() / 14, -changes[changes < 0].sum() / 14
        assert last("rsi", BARS, 14) == [pytest.approx(100 - 100 / (1 + gains / losses))]
        assert last("rsi", BARS, 14)[0] != pytest.approx(talib.RSI(CLOSE, 14)[-1])

    def test_rsi_at_its_ends_and_in_a_flat_market(self) -> None:
        rising = [bar(at(TUESDAY, 9, 30 + n), 100.0 + n) for n in range(20)]
        falling = [bar(at(TUESDAY, 9, 30 + n), 100.0 - n) for n in range(20)]
        assert (last("rsi", rising, 14), last("rsi", falling, 14)) == ([100.0], [0.0])
        flat = [*prices(30), *(bar(at(TUESDAY, 10, n), 33.33) for n in range(1, 20))]
        assert math.isnan(last("rsi", flat, 14)[0])

    def test_macd_is_the_difference_of_two_averages_from_the_first_bar_on(self) -> None:
        line, signal, histogram = values("macd", BARS)
        difference = talib.EMA(CLOSE, 12) - talib.EMA(CLOSE, 26)
        np.testing.assert_array_equal(line[34:], difference[34:])
        np.testing.assert_array_equal(signal[34:], talib.EMA(difference, 9)[34:])
        np.testing.assert_array_equal(histogram[34:], (line - signal)[34:])

    def test_oscillators(self) -> None:
        high, low, close = HIGH[-14:].max(), LOW[-14:].min(), CLOSE[-1]
        k, d = last("stochastic", BARS, 14)
        assert k == pytest.approx(100 * (close - low) / (high - low))
        fast = talib.STOCHF(HIGH, LOW, CLOSE, fastk_period=14, fastd_period=3)
        assert [k, d] == pytest.approx([fast[0][-1], fast[1][-1]])
        assert last("williams_r", BARS, 14) == [pytest.approx(-100 * (high - close) / (high - low))]
        typical = (HIGH + LOW + CLOSE) / 3
        window = typical[-20:]
        deviation = np.abs(window - window.mean()).mean()
        assert last("cci", BARS, 20) == [pytest.approx((typical[-1] - window.mean()) / (0.015 * deviation))]
        assert last("roc", BARS, 10) == [pytest.approx(100 * (close / CLOSE[-11] - 1))]
        assert last("mom", BARS, 10) == [pytest.approx(close - CLOSE[-11])]
        before = CLOSE[:-1]
        pressure = CLOSE[1:] - np.minimum(LOW[1:], before)
        true_range = np.maximum(HIGH[1:], before) - np.minimum(LOW[1:], before)
        shares = [pressure[-n:].sum() / true_range[-n:].sum() for n in (7, 14, 28)]
        assert last("ultimate_osc", BARS) == [pytest.approx(100 * (4 * shares[0] + 2 * shares[1] + shares[2]) / 7)]

    @pytest.mark.parametrize("name", ["stochastic", "williams_r", "cci", "rsi", "ultimate_osc"])
    def test_oscillators_have_no_value_where_nothing_moved(self, name: str) -> None:
        price = 0.1 + 0.2
        still = [Bar(at(TUESDAY, 10) + n * 60_000_000_000, price, price, price, price, 5.0) for n in range(80)]
        period = 0 if name == "ultimate_osc" else 14
        assert all(math.isnan(one) for one in last(name, still, period))
        moved = [*prices(30), *still]
        assert all(math.isnan(one) for one in last(name, moved, period))

    def test_volatility(self) -> None:
        before = CLOSE[:-1]
        ranges = (np.maximum(HIGH[1:], before) - np.minimum(LOW[1:], before)).tolist()
        atr = sum(ranges[:14]) / 14
        for one in ranges[14:]:
            atr += (one - atr) / 14
        assert last("atr", BARS, 14) == last("atr_daily", BARS, 14) == [pytest.approx(atr)]
        window = CLOSE[-20:]
        deviation = math.sqrt(((window - window.mean()) ** 2).sum() / 20)
        assert last("stddev", BARS, 20) == [pytest.approx(deviation)]
        middle, upper, lower, width = last("bbands", BARS, 20, num_std=3.0)
        assert [middle, upper] == pytest.approx([window.mean(), window.mean() + 3 * deviation])
        assert [lower, width] == pytest.approx([window.mean() - 3 * deviation, 6 * deviation / middle])
        middle, upper, lower = last("keltner", BARS, 20)
        reach = 2 * last("atr", BARS, 10)[0]
        assert middle == pytest.approx(last("ema", BARS, 20)[0])
        assert [upper - middle, middle - lower] == pytest.approx([reach, reach])
        high, low = HIGH[-20:].max(), LOW[-20:].min()
        assert last("donchian", BARS, 20) == [(high + low) / 2, high, low]
        assert last("high_low", BARS, 20) == [high, low]
        assert last("high_low", BARS, 1) == [HIGH[-1], LOW[-1]]

    @pytest.mark.parametrize(
        ("interval", "bars_a_year"), [("1m", 252 * 390), ("60m", 252 * 6.5), ("1d", 252), ("1w", 52)]
    )
    def test_historical_volatility_is_a_years(self, interval: str, bars_a_year: float) -> None:
        returns = np.diff(np.log(CLOSE))[-20:]
        deviation = math.sqrt(((returns - returns.mean()) ** 2).mean())
        assert last("histvol", BARS, 20, interval) == [pytest.approx(100 * deviation * math.sqrt(bars_a_year))]

    def test_volume(self) -> None:
        assert last("volume_sma", BARS, 20) == last("avg_volume", BARS, 20) == [pytest.approx(VOLUME[-20:].mean())]
        assert last("volume_ratio", BARS, 20) == [pytest.approx(VOLUME[-1] / VOLUME[-20:].mean())]
        signs = np.sign(np.diff(CLOSE))
        assert last("obv", BARS) == [(signs * VOLUME[1:]).sum()]
        assert last("obv", BARS)[0] == talib.OBV(CLOSE, VOLUME)[-1] - VOLUME[0]
        assert last("pvt", BARS) == [pytest.approx(talib.PVT(CLOSE, VOLUME)[-1])]
        dead = [bar(at(TUESDAY, 9, 30 + n), 100.0, 0.0) for n in range(20)]
        assert math.isnan(last("volume_ratio", dead, 20)[0])
        assert math.isnan(last("vwap", dead)[0])

    def test_swings_are_known_when_the_bars_after_them_are(self) -> None:
        highs = [1, 2, 5, 3, 2, 2, 4, 4, 1, 1, 9]
        bars = [Bar(at(TUESDAY, 9, 30 + n), 0.5, high, 0.1, 0.5, 1) for n, high in enumerate(highs)]
        [found] = values("swing_high", bars, 2)
        np.testing.assert_array_equal(found, [math.nan] * 4 + [5, 5, 5, 5, 4, 4, 4])
        mirrored = [Bar(one.start_ns, -0.5, -0.1, -one.high, -0.5, 1) for one in bars]
        np.testing.assert_array_equal(values("swing_low", mirrored, 2)[0], -found)

    def test_gaps_and_ranges_of_days(self) -> None:
        rows = [(10.0, 12.0, 9.0, 11.0), (11.005, 13.0, 11.0, 12.0), (12.5, 13.0, 12.0, 12.0), (11.0, 12.0, 10.0, 11.0)]
        rows.append((11.0, 11.0, 11.0, 11.0))
        days = [
            Bar(at(TUESDAY, 9, 30) + n * 86_400_000_000_000, open_, high, low, close, 1.0)
            for n, (open_, high, low, close) in enumerate(rows)
        ]
        assert last("gap_stats", days, 4, "1d") == [pytest.approx((0.005 + 0.5 - 1 + 0) / 4), 2, 2, 1]
        assert last("gap_stats", days, 4, "1d", significant=0.001)[1] == 3
        assert last("avg_range", days, 5, "1d") == [pytest.approx((3 + 2 + 1 + 2 + 0) / 5)]
        assert last("range_ratio", days[:4], 4, "1d") == [pytest.approx(2 / 2)]
        assert math.isnan(last("range_ratio", days, 1, "1d")[0])
        assert last("trailing_average", days, 2, "1d", field="open") == [11.0]
        assert last("trailing_max", days, 3, "1d", field="high") == [13.0]
        assert last("trailing_min", days, 3, "1d", field="low") == [10.0]


class TestSessions:
    def test_what_is_cumulative_begins_anew_each_session_and_at_its_open(self) -> None:
        early = [bar(at(WEDNESDAY, 9, 28 + n), 50.0, 1000.0) for n in range(2)]
        bars = [*minutes(TUESDAY, 385, 390), *early, *minutes(WEDNESDAY, 0, 3)]
        _, (_, high, low, close, volume) = columns_of(bars)
        typical = (high + low + close) / 3
        [vwap] = values("vwap", bars)
        assert vwap[4] == pytest.approx((typical[:5] * volume[:5]).sum() / volume[:5].sum())
        assert vwap[7] == pytest.approx(typical[7])
        assert vwap[9] == pytest.approx((typical[7:] * volume[7:]).sum() / volume[7:].sum())
        assert values("twap", bars)[0][[4, 6, 7, 9]].tolist() == pytest.approx(
            [close[:5].mean(), 50.0, close[7], close[7:].mean()]
        )
        assert values("obv", bars)[0][[0, 4, 5, 7, 9]].tolist() == [0.0, volume[1:5].sum(), 0.0, 0.0, volume[8:].sum()]
        assert values("pvt", bars)[0][[0, 5, 7]].tolist() == [0.0, 0.0, 0.0]

    def test_what_is_not_cumulative_runs_on_over_the_night(self) -> None:
        bars = [*minutes(MONDAY, 380, 390), *minutes(TUESDAY, 0, 10)]
        closes = [one.close for one in bars]
        assert values("sma", bars, 15)[0][14] == pytest.approx(sum(closes[:15]) / 15)

    def test_on_days_obv_runs_on_and_vwap_means_nothing(self) -> None:
        days = [bar(at(day, 9, 30), 100.0 + n) for n, day in enumerate((MONDAY, TUESDAY, WEDNESDAY))]
        assert values("obv", days, interval="1d")[0].tolist() == [0.0, 10.0, 20.0]
        with pytest.raises(ConfigError, match="vwap is of the bars within a session"):
            values("vwap", days, interval="1d")

    def test_pivots_are_of_the_regular_session_before(self) -> None:
        late = [bar(at(MONDAY, 17), 999.0)]
        early = [bar(at(TUESDAY, 9), 1.0)]
        bars = [*minutes(BLACK_FRIDAY, 0, 210), *minutes(MONDAY, 0, 390), *late, *early, *minutes(TUESDAY, 0, 5)]
        outputs = values("pivot_points", bars)
        assert np.isnan(outputs[0][:210]).all()
        high, low, close = 100 + 2.09 + 0.5, 99.5, 102.09
        pivot = (high + low + close) / 3
        wanted = [
            pivot,
            2 * pivot - low,
            pivot + high - low,
            high + 2 * (pivot - low),
            2 * pivot - high,
            pivot - high + low,
            low - 2 * (high - pivot),
        ]
        assert [one[210] for one in outputs] == pytest.approx(wanted)
        assert [one[600] for one in outputs] == pytest.approx(wanted)  # after Monday's close it is still Monday
        high, low, close = 100 + 3.89 + 0.5, 99.5, 103.89
        assert [outputs[0][place] for place in (601, -1)] == pytest.approx([(high + low + close) / 3] * 2)

    def test_trailing_figures_look_at_the_same_minute_of_the_days_before(self) -> None:
        days = [(BLACK_FRIDAY, 100.0), (MONDAY, 200.0), (TUESDAY, 400.0), (WEDNESDAY, 800.0)]
        bars = [
            one for day, base in days for one in minutes(day, 0, 5, base=base, without=[3] if day == MONDAY else [])
        ]
        [mean] = values("trailing_average", bars, 2)
        assert np.isnan(mean[:9]).all()
        assert mean[9:14].tolist() == pytest.approx([150.0, 150.01, 150.02, 100.03, 150.04])
        assert mean[14:].tolist() == pytest.approx([300.0, 300.01, 300.02, 400.03, 300.04])
        assert values("trailing_max", bars, 2, field="high")[0][-1] == pytest.approx(400.54)
        assert values("trailing_min", bars, 2, field="volume")[0][-1] == 14.0


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - LATE))
def test_first_value_comes_with_the_last_bar_of_the_warm_up(name: str) -> None:
    spec = REGISTRY[name]
    request = make_request(name, "1m", spec.period.usual if spec.period else 0)
    outputs = Run(request).whole(*columns_of(BARS), table())
    for column in outputs:
        assert np.isnan(column[: request.warm_up - 1]).all()
        assert np.isfinite(column[request.warm_up - 1 :]).all()


@pytest.mark.parametrize(
    ("name", "period", "bars"),
    [
        ("sma", 20, 20),
        ("rsi", 14, 15),
        ("atr", 14, 15),
        ("dema", 20, 40),
        ("tema", 20, 60),
        ("macd", 0, 35),
        ("swing_high", 5, 11),
        ("ultimate_osc", 0, 29),
        ("hma", 16, 19),
        ("stochastic", 14, 16),
    ],
)
def test_warm_up_is_what_is_listed(name: str, period: int, bars: int) -> None:
    assert make_request(name, "5m", period).warm_up == bars


class TestRequests:
    def test_all_that_are_asked_for_are_there(self) -> None:
        for kind, names in LISTED.items():
            assert [spec.name for spec in REGISTRY.values() if spec.kind == kind] == names.split()

    def test_key_names_period_and_interval(self) -> None:
        assert make_request("sma", "5m", 20).key == "sma_20_5m"
        assert make_request("vwap", "1m").key == "vwap_1m"

    def test_unknown_name_lists_the_known_ones(self) -> None:
        with pytest.raises(ConfigError, match="known are atr, atr_daily, avg_range") as refused:
            make_request("smaa", "5m", 20)
        assert refused.value.code == "unknown_indicator"

    @pytest.mark.parametrize(
        ("name", "interval", "period", "params", "reason"),
        [
            ("sma", "1h", 20, {}, "«1h» is no bar interval"),
            ("sma", "5m", 0, {}, "sma needs a period of 1 to 5000 bars, usually 20, not 0"),
            ("stddev", "5m", 1, {}, "stddev needs a period of 2"),
            ("sma", "5m", -3, {}, "not -3"),
            ("sma", "5m", 2.5, {}, "not 2.5"),
            ("sma", "5m", 6000, {}, "not 6000"),
            ("vwap", "5m", 20, {}, "vwap takes no period, but was given 20"),
            ("macd", "5m", 0, {"quick": 3}, "macd has no parameter quick; it knows fast, slow, signal"),
            ("sma", "5m", 5, {"x": 3}, "it knows none but its period"),
            ("macd", "5m", 0, {"fast": 2.5}, "counts fast in bars"),
            ("macd", "5m", 0, {"fast": 0}, "needs fast to be a number above 0"),
            ("bbands", "5m", 20, {"num_std": math.nan}, "needs num_std to be a number above 0"),
            ("bbands", "5m", 20, {"num_std": True}, "needs num_std to be a number above 0"),
            ("bbands", "5m", 20, {"num_std": "2"}, "needs num_std to be a number above 0"),
            ("trailing_max", "1d", 20, {"field": "vwap"}, "knows field close, open, high, low, volume"),
        ],
    )
    def test_what_does_not_fit_is_refused_with_the_reason(
        self, name: str, interval: str, period: Any, params: dict[str, Any], reason: str
    ) -> None:
        with pytest.raises(ConfigError, match=reason):
            make_request(name, interval, period, params)

    def test_unit_chooses_the_bars_of_a_historical_figure(self) -> None:
        assert make_request("avg_volume", "1m", 20, unit="days").key == "avg_volume_20_1d"
        assert make_request("high_low", "1m", 4, unit="weeks").key == "high_low_4_1w"
        assert make_request("high_low", "15m", 4, unit="bars").key == "high_low_4_15m"
        with pytest.raises(ConfigError, match="days, weeks, bars, not 'months'"):
            make_request("avg_volume", "1d", 20, unit="months")

    def test_two_under_one_key_are_refused(self) -> None:
        one, other = make_request("bbands", "5m", 20), make_request("bbands", "5m", 20, {"num_std": 3.0})
        check_unique([one, make_request("bbands", "1m", 20)])
        with pytest.raises(ConfigError, match="bbands_20_5m is declared twice"):
            check_unique([one, other])


class TestViews:
    def test_view_follows_the_cursor_of_its_bars(self) -> None:
        series = series_of("SPY", "1m", BARS)
        indicator = Indicator(make_request("macd", "1m"), series, table())
        view = indicator.views["macd"]
        assert (view.value, view.previous, view.values.tolist(), view.key) == (None, None, [], "macd_1m")
        series.count = 35
        assert view.previous is None
        series.count = 36
        assert (view.value, view.previous) == (indicator.columns[0][35], indicator.columns[0][34])
        assert view.output("signal").value == indicator.columns[1][35]
        assert view.output("signal").output("histogram").value == indicator.columns[2][35]
        assert len(view.values) == 36
        with pytest.raises(ValueError, match="read-only"):
            view.values[0] = 1.0
        with pytest.raises(ConfigError, match="macd has no output 'sig'; it has macd, signal, histogram"):
            view.output("sig")

    def test_indicator_of_a_new_series_grows_with_it(self) -> None:
        series = BarSeries("SPY", "1m")
        indicator = Indicator(make_request("ema", "1m", 3), series, table())
        for one in BARS * 1:
            indicator.step(one, table())
            series.append(one)
        np.testing.assert_array_equal(indicator.views["value"].values, values("ema", BARS, 3)[0])


def test_page_lists_every_indicator_as_it_is() -> None:
    page = (ROOT / "docs" / "indicators.md").read_text(encoding="utf-8")
    assert markdown_table() in page, "write the table anew: python -m trading.market.indicators.registry"


def test_intervals_of_the_registry_are_checked_by_one_parser() -> None:
    assert make_request("sma", "60m", 5).interval == parse_interval("60m")
