"""A session on stored bars, put together: feed, clock, simulated broker, data.

Leaves: driving it (``market.coordinator``), the command (``run_session``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from django.conf import settings

from strategies.intervals import parse_interval
from trading.market.calendar_rows import make_time_manager
from trading.market.feeds import StoredFeed, stored_reader
from trading.market.session_parts import Mode, SessionConfig
from trading.market.session_status import SessionObserver
from trading.market.sim_desk import SimulatedDesk
from trading.market.system_manager import SystemManager

BARS_FOLDER = "bars"
_LEAST_DAYS = 30  # trading days of base bars that scanners may ask for
_DAILY_SPAN = timedelta(days=800)  # two years of daily bars, and some


@dataclass(frozen=True, slots=True)
class BacktestSession:
    """What is needed to run one, and to read what came out."""

    system: SystemManager
    desk: SimulatedDesk


def bars_folder() -> Path:
    """Return where Parquet files with bars lie."""
    return settings.MATS.mats_home / BARS_FOLDER


def build_backtest(config: SessionConfig, observer: SessionObserver | None = None) -> BacktestSession:
    """Return a session that has not started.

    Raises: ConfigError, NotFoundError where its bars cannot be read.
    """
    clock = make_time_manager(Mode.BACKTEST.value, group=config.exchange_group)
    read = stored_reader(config.api_config.data_source, bars_folder())
    first, until = stretch(config)
    desk = SimulatedDesk(config, clock.overrides)
    system = SystemManager(
        StoredFeed(read, first, until, daily_first=first - _DAILY_SPAN),
        time_manager=clock,
        desk=desk,
        make_executor=desk.sink_for,
        observer=observer,
    )
    return BacktestSession(system, desk)


def stretch(config: SessionConfig) -> tuple[datetime, datetime]:
    """Return from when to when bars may be needed, the history before the first day included."""
    backtest = config.backtest_config
    assert backtest is not None  # noqa: S101 - a checked configuration
    data = config.session_data_config
    windows = [series.trailing_days for series in data.historical.data]
    for one in data.indicators.session:
        length = parse_interval(one.interval)
        windows.append(3 * one.period * length.seconds // 23_400 + 1 if length.is_intraday else 0)
    days = max([_LEAST_DAYS, *windows])
    begin = backtest.start_date - timedelta(days=days * 2)  # weekends and holidays
    return datetime.combine(begin, time(), UTC), datetime.combine(backtest.end_date, time(), UTC) + timedelta(days=2)
