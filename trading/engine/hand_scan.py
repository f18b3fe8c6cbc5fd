"""One scan outside of a session: light data from the store and IB, the scanner's three steps, the record.

Owns: the moment that is scanned for, and data for it. Leaves: which scanner and when (``sessions``), storing.
Rule: while the market is closed, the moment is its last close: a scan on a weekend is about Friday. Symbols are not
promoted by it; what it found is for a person.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from strategies.exceptions import ConfigError, MatsError
from trading.engine.session_feed import LiveFeed
from trading.market.calendar_rows import make_time_manager
from trading.market.feeds import StoredFeed
from trading.market.processor import DataProcessor
from trading.market.scanners.base import BaseScanner, MarketScan, Need, ScanContext, ScanResult
from trading.market.scanners.loader import load_scanner
from trading.market.scanners.manager import ScanRecord
from trading.market.scanners.members import members_of
from trading.market.session_config import SessionConfig, parse_session_config
from trading.market.session_store import SessionStore, make_session_data
from trading.market.session_symbols import SessionSymbols
from trading.market.time_manager import BACKTEST, TimeManager
from trading.session_models import ScannerConfig

if TYPE_CHECKING:
    from trading.engine.manager import StrategyManager

logger = logging.getLogger(__name__)

MOST_SYMBOLS = 50
INTRADAY_SPAN, DAILY_SPAN = timedelta(days=10), timedelta(days=400)


def scan_by_hand(engine: StrategyManager, row: ScannerConfig) -> ScanRecord:
    """Scan with a saved scanner; whatever its code raises is the record's error.

    Raises: LoadError, ConfigError for a scanner that cannot be used, or asks for too many symbols at once.
    """
    scanner = load_scanner(row.module).cls(row.config)
    universe = members_of(scanner.universe())
    if len(universe) > MOST_SYMBOLS:
        raise ConfigError(
            f"{row.name} looks at {len(universe)} symbols; a scan by hand asks for {MOST_SYMBOLS} at most. Use it in "
            "a session, which loads them once.",
            code="too_many_symbols",
        )
    host = HandHost(engine, row.module)
    began = time.perf_counter()
    result = _scanned(scanner, ScanContext(host, universe), row.name)
    result.execution_time_ms = (time.perf_counter() - began) * 1000
    return ScanRecord(row.name, host.time_manager.get_current_time(), result, len(universe))


def _scanned(scanner: BaseScanner, context: ScanContext, name: str) -> ScanResult:
    try:
        if scanner.setup(context) is False:
            return ScanResult(error="Its setup gave up; its log says why.")
        result = scanner.scan(context)
        scanner.teardown(context)
    except MatsError as error:
        return ScanResult(error=error.message)
    except Exception as error:
        logger.exception("scan failed scanner=%s", name)
        return ScanResult(error=f"{type(error).__name__}: {error}")
    return result if isinstance(result, ScanResult) else ScanResult(error="scan did not return a ScanResult.")


class HandHost:
    """What a scanner sees outside of a session."""

    mode = "live"

    def __init__(self, engine: StrategyManager, module: str) -> None:
        self._live = LiveFeed(engine.market, engine.session, lambda text: engine.log("", text, "warning"))
        clock = make_time_manager(BACKTEST)
        moment = moment_to_scan(clock, datetime.now(UTC))
        clock.set_time(moment)
        self.time_manager = clock
        config = _config_of(module, clock.trading_day_of(moment))
        self.session_data = make_session_data(config, clock)
        processor = DataProcessor(config, SessionStore(config, self.session_data), _Nobody())
        feed = StoredFeed(self._live.read_or_nothing, moment - INTRADAY_SPAN, moment, daily_first=moment - DAILY_SPAN)
        self._symbols = SessionSymbols(config, feed, processor, clock, None)
        session = clock.get_trading_session(clock.trading_day_of(moment))
        self._symbols.begin_day(session)
        processor.begin_day(session)

    def provision(self, needs: Sequence[Need]) -> None:
        """Load light data."""
        self._symbols.provision(needs, "scanner")

    def market_scan(self, scan: MarketScan) -> list[str]:
        """Return the symbols of one of IB's rankings."""
        return self._live.market_scan(scan)

    def is_locked(self, symbol: str) -> bool:
        """Hold nothing: nothing is removed either."""
        return False


class _Nobody:
    """Strategies of a scan by hand: none."""

    def notify_strategies(self, symbol: str, interval: str, data_type: str = "bars") -> None:
        """Tell nobody."""

    def wait_for_strategies(self, timeout: float | None = None) -> bool:
        """Wait for nobody."""
        return True

    def notify_quality(self, symbol: str, interval: str, quality: float) -> None:
        """Tell nobody."""


def moment_to_scan(clock: TimeManager, now: datetime) -> datetime:
    """Return the present while the market is open, else its last close."""
    day = clock.trading_day_of(now)
    session = clock.get_trading_session(day)
    if session.regular_open is not None and session.regular_close is not None and now >= session.regular_open:
        return min(now, session.regular_close)
    before = clock.get_trading_session(clock.get_previous_trading_date(day)).regular_close
    return before if before is not None else now


def _config_of(module: str, day: date) -> SessionConfig:
    raw: dict[str, Any] = {
        "mode": "backtest",
        "backtest_config": {"start_date": day.isoformat(), "end_date": day.isoformat()},
        "session_data_config": {
            "streams": ["1m"],
            "scanners": [{"module": module if "." in module else f"scanners.{module}", "pre_session": True}],
        },
    }
    return parse_session_config(raw)
