"""A session's configuration: what the seeds wrote is read, every mistake is refused with its place and a reason."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from strategies.exceptions import ConfigError
from trading.market.session_config import (
    Mode,
    RunMode,
    SessionConfig,
    load_session_config,
    parse_session_config,
)
from trading.market.session_rules import base_interval

CONFIGS = Path(__file__).resolve().parents[2] / "session_configs"


def single() -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((CONFIGS / "test_single_strategy.json").read_text())
    return raw


def errors_of(raw: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse_session_config(raw)
    assert caught.value.code == "bad_session_config"
    errors: dict[str, str] = caught.value.fields["errors"]
    assert all(reason in caught.value.message for reason in errors.values())
    return errors


def changed(place: str, value: Any) -> dict[str, Any]:
    """The single-strategy configuration with one part replaced; numbers in the place are list indices."""
    raw = copy.deepcopy(single())
    target: Any = raw
    *way, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    for part in way:
        target = target.setdefault(part, {}) if isinstance(target, dict) else target[part]
    target[last] = value
    return raw


def test_the_seeds_sample_of_one_strategy_is_read_with_safe_defaults() -> None:
    config = load_session_config(CONFIGS / "test_single_strategy.json")
    [strategy] = config.session_data_config.strategies
    assert (config.session_name, config.mode, config.mode.value) == ("session", Mode.BACKTEST, "backtest")
    assert config.run_mode is RunMode.DATA_DRIVEN
    assert config.backtest_config is not None
    assert config.backtest_config.speed_multiplier == 0
    assert (strategy.module, strategy.enabled) == ("strategies.examples.simple_ma_cross", True)
    assert strategy.config == {"symbols": ["AAPL"], "interval": "5m", "fast_period": 10, "slow_period": 20}
    assert config.trading_config.max_per_trade == Decimal(10_000)
    assert config.session_data_config.streaming.catchup_threshold_seconds == 60
    assert config.session_data_config.gap_filler.max_retries == 5


def test_the_seeds_sample_of_two_strategies_is_read() -> None:
    config = load_session_config(CONFIGS / "test_multiple_strategies.json")
    assert [one.module.rpartition(".")[2] for one in config.session_data_config.strategies] == [
        "simple_ma_cross",
        "rsi_strategy",
    ]
    assert config.session_data_config.symbols == ["AAPL", "GOOGL", "TSLA"]


@pytest.mark.parametrize(
    ("mode", "speed", "wanted"), [("backtest", 0, "data-driven"), ("backtest", 60, "clock-driven"), ("live", 5, "live")]
)
def test_mode_and_speed_say_how_the_clock_moves(mode: str, speed: float, wanted: str) -> None:
    raw = changed("backtest_config.speed_multiplier", speed)
    raw["mode"] = mode
    assert parse_session_config(raw).run_mode.value == wanted


@pytest.mark.parametrize(
    ("place", "value", "where", "words"),
    [
        ("oops", 1, "oops", "no such key"),
        ("trading_config.max_per_trad", 5, "trading_config.max_per_trad", "no such key"),
        ("session_data_config.strategies.0.modul", "x", "session_data_config.strategies[0]", "no such key"),
        ("mode", "paper", "mode", "'live' or 'backtest'"),
        ("exchange_group", "MOON", "exchange_group", "«MOON» is no known exchange"),
        ("session_data_config.streams", ["1m", "1h"], "session_data_config.streams[1]", "«1h» is no bar interval"),
        ("session_data_config.streams", ["quotes"], "session_data_config.streams[0]", "«quotes» is no bar interval"),
        ("session_data_config.streams", ["1m", "1m"], "session_data_config.streams[1]", "1m is there already"),
        ("session_data_config.streams", ["1d"], "session_data_config.streams", "add 1m"),
        ("session_data_config.streams", ["7s", "1m"], "session_data_config.streams[1]", "be cut from bars of 7s"),
        ("session_data_config.streams", [], "session_data_config.streams", "at least 1 item"),
        ("session_data_config.symbols", ["AAPL", "AAPL"], "session_data_config.symbols[1]", "AAPL is there already"),
        ("session_data_config.symbols", ["aapl"], "session_data_config.symbols[0]", "pattern"),
        ("session_data_config.symbols", [], "session_data_config.symbols", "a scanner that finds some"),
        ("session_data_config.gap_filler", {"max_retries": 21}, "session_data_config.gap_filler.max_retries", "20"),
        (
            "session_data_config.gap_filler",
            {"retry_interval_seconds": 0},
            "session_data_config.gap_filler.retry_interval_seconds",
            "greater than or equal to 1",
        ),
        (
            "session_data_config.streaming",
            {"catchup_check_interval": 101},
            "session_data_config.streaming.catchup_check_interval",
            "100",
        ),
        (
            "session_data_config.historical",
            {"data": [{"trailing_days": 0, "intervals": ["1d"]}]},
            "session_data_config.historical.data[0].trailing_days",
            "greater than 0 (given: 0)",
        ),
        (
            "session_data_config.historical",
            {"data": [{"trailing_days": 5, "intervals": ["1d"], "apply_to": ["TSLA"]}]},
            "session_data_config.historical.data[0].apply_to[0]",
            "TSLA is not one of the session's symbols",
        ),
        ("trading_config", {"max_per_trade": -1}, "trading_config.max_per_trade", "greater than 0"),
        ("trading_config", {"max_open_positions": 0}, "trading_config.max_open_positions", "greater than 0"),
        (
            "trading_config",
            {"max_per_trade": 30_000, "max_per_symbol": 20_000},
            "trading_config.max_per_trade",
            "more than max_per_symbol",
        ),
        (
            "trading_config",
            {"max_buying_power": 5_000, "max_per_symbol": 6_000, "max_per_trade": 100},
            "trading_config.max_per_symbol",
            "more than max_buying_power",
        ),
        ("backtest_config.end_date", "2024-01-01", "backtest_config.end_date", "before start_date"),
        ("backtest_config.start_date", "2024-02-30", "backtest_config.start_date", "date"),
        ("backtest_config.speed_multiplier", -1, "backtest_config.speed_multiplier", "greater than or equal to 0"),
        ("backtest_config", None, "backtest_config", "needs start_date and end_date"),
        ("api_config", {"trade_api": "ib"}, "api_config.trade_api", "simulates fills"),
        ("api_config", {"data_source": "parquet:../x.parquet"}, "api_config.data_source", "pattern"),
        ("session_name", "../x", "session_name", "pattern"),
    ],
)
def test_a_mistake_is_refused_with_its_place_and_a_reason(place: str, value: Any, where: str, words: str) -> None:
    errors = errors_of(changed(place, value))
    assert where in errors
    assert words in errors[where]


def test_every_mistake_is_told_at_once() -> None:
    raw = changed("session_data_config.streams", ["1x"])
    raw["trading_config"] = {"max_open_positions": 0}
    raw["unknown"] = 1
    assert set(errors_of(raw)) == {
        "session_data_config.streams[0]",
        "trading_config.max_open_positions",
        "unknown",
    }


def test_duplicate_indicators_and_unstreamed_intervals_are_refused() -> None:
    indicators = {
        "session": [
            {"name": "sma", "period": 20, "interval": "5m"},
            {"name": "sma", "period": 50, "interval": "5m"},
            {"name": "sma", "period": 20, "interval": "5m", "type": "trend"},
            {"name": "vwap", "interval": "15m"},
        ]
    }
    errors = errors_of(changed("session_data_config.indicators", indicators))
    assert errors == {
        "session_data_config.indicators.session[2]": "sma_20_5m is there already, as number 0.",
        "session_data_config.indicators.session[3].interval": "15m is not streamed; streams are 1m, 5m.",
    }


def test_an_indicator_that_there_is_not_or_with_a_bad_period_is_refused() -> None:
    indicators = {
        "session": [{"name": "no_such", "period": 3, "interval": "5m"}, {"name": "sma", "period": 0, "interval": "5m"}],
        "historical": [{"name": "avg_volume", "period": 20, "unit": "weeks"}],
    }
    errors = errors_of(changed("session_data_config.indicators", indicators))
    assert "There is no indicator 'no_such'" in errors["session_data_config.indicators.session[0]"]
    assert "session_data_config.indicators.session[1]" in errors


def test_the_key_of_an_indicator_leaves_a_missing_period_out() -> None:
    raw = changed("session_data_config.indicators", {"session": [{"name": "vwap", "interval": "1m"}]})
    [vwap] = parse_session_config(raw).session_data_config.indicators.session
    assert vwap.key == "vwap_1m"


def test_one_strategy_runs_once_in_a_session() -> None:
    raw = single()
    raw["session_data_config"]["strategies"] *= 2
    assert errors_of(raw) == {
        "session_data_config.strategies[1].module": "simple_ma_cross is there already, as number 0; a session runs a "
        "strategy once."
    }


@pytest.mark.parametrize(
    ("scanner", "where", "words"),
    [
        ({"module": "scanners.gap"}, "", "It never scans"),
        ({"module": "scanners.gap", "pre_session": True, "oops": 1}, ".oops", "no such key"),
        (
            {"module": "scanners.gap", "regular_session": [{"start": "10:00", "end": "09:40", "interval": "5m"}]},
            ".regular_session[0].end",
            "09:40 comes before start 10:00",
        ),
        (
            {
                "module": "scanners.gap",
                "regular_session": [
                    {"start": "09:35", "end": "10:30", "interval": "5m"},
                    {"start": "10:30", "end": "11:00", "interval": "5m"},
                ],
            },
            ".regular_session[1]",
            "overlaps number 0, 09:35 to 10:30",
        ),
        (
            {"module": "scanners.gap", "regular_session": [{"start": "09:35", "end": "10:30", "interval": "1d"}]},
            ".regular_session[0].interval",
            "longer than a session",
        ),
        ({"module": "scanners/gap", "pre_session": True}, ".module", "pattern"),
    ],
)
def test_schedules_of_scanners_are_checked(scanner: dict[str, Any], where: str, words: str) -> None:
    errors = errors_of(changed("session_data_config.scanners", [scanner]))
    assert words in errors[f"session_data_config.scanners[0]{where}"]


def test_a_session_without_symbols_needs_a_scanner() -> None:
    raw = changed("session_data_config.symbols", [])
    raw["session_data_config"]["scanners"] = [{"module": "scanners.gap", "pre_session": True}]
    assert parse_session_config(raw).session_data_config.symbols == []


@pytest.mark.parametrize("text", ["[1]", "{", '{"mode": NaN}', "nonsense"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_session_config(path)
    assert caught.value.code == "bad_session_config"


def test_a_missing_file_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json cannot be read"):
        load_session_config(tmp_path / "none.json")


def test_what_was_read_can_be_written_and_read_again() -> None:
    config = load_session_config(CONFIGS / "test_multiple_strategies.json")
    again = parse_session_config(json.loads(config.model_dump_json()))
    assert again == config
    assert isinstance(again, SessionConfig)


@pytest.mark.parametrize(
    ("streams", "base"), [(["1m", "5m"], "1m"), (["5m", "15m"], "1m"), (["5s", "1m"], "5s"), (["1d", "5m"], "1m")]
)
def test_the_finest_interval_is_streamed(streams: list[str], base: str) -> None:
    assert base_interval(streams) == base
