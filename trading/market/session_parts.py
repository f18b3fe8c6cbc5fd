"""The parts of a session's configuration: types, bounds, safe defaults and what each is for.

Leaves: what parts mean together (``session_rules``), reading and errors (``session_config``). Pure.
Rule: unknown keys are refused, because a misspelt limit would be no limit. ``model_validate`` alone does not check a
session: use ``session_config.parse_session_config``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from strategies.exceptions import MatsError
from strategies.intervals import parse_interval
from strategies.reactive import StrategyConfig

MAX_SYMBOLS = 500
_STRATEGY_KEYS = ("module", "enabled", "config")


class Mode(StrEnum):
    """Where bars come from: the market, or the past."""

    LIVE = "live"
    BACKTEST = "backtest"


class RunMode(StrEnum):
    """How the clock moves."""

    LIVE = "live"
    DATA_DRIVEN = "data-driven"
    CLOCK_DRIVEN = "clock-driven"


def _interval(text: str) -> str:
    try:
        return parse_interval(text).text
    except MatsError as error:
        raise ValueError(error.message) from None


def _intraday(text: str) -> str:
    if not parse_interval(_interval(text)).is_intraday:
        raise ValueError(f"«{text}» is longer than a session; write minutes such as 5m.")
    return text


def _known_keys(raw: Any) -> Any:
    if isinstance(raw, Mapping):
        unknown = sorted(str(key) for key in raw if key not in _STRATEGY_KEYS)
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no such key here; known are {', '.join(_STRATEGY_KEYS)}.")
    return raw


def _module(entry: StrategyConfig) -> StrategyConfig:
    entry.validate()
    return entry


Interval = Annotated[str, AfterValidator(_interval)]
Intraday = Annotated[str, AfterValidator(_intraday)]
Symbol = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9. ]{0,11}$", description="Ticker in capitals.")]
ModulePath = Annotated[
    str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$", max_length=120, description="Such as scanners.gap.")
]
Strategy = Annotated[StrategyConfig, BeforeValidator(_known_keys), AfterValidator(_module)]
Money = Annotated[Decimal, Field(gt=0, le=Decimal("1e12"), allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class BacktestConfig(_Part):
    """Which days are gone through, how fast, with how much money and at what cost."""

    start_date: date = Field(description="First session day, local to the exchange.")
    end_date: date = Field(description="Last session day, included.")
    speed_multiplier: float = Field(
        default=0,
        ge=0,
        le=100_000,
        description="0: from bar to bar, as fast as the slowest strategy; 60: a minute a second.",
    )
    initial_capital: Money = Field(default=Decimal(100_000), description="Cash, shared evenly by the strategies.")
    commission_per_share: Decimal | None = Field(default=None, ge=0, description="Empty: IB's fixed pricing.")
    slippage_bps: Decimal = Field(
        default=Decimal(0), ge=0, le=1000, description="Hundredths of a per cent, against the order."
    )
    allow_short: bool = Field(default=False, description="SELL from flat opens a short position.")


class StreamingConfig(_Part):
    """How late bars may be before strategies are not told of them any more."""

    catchup_threshold_seconds: int = Field(default=60, ge=1, le=86_400, description="Older bars are late.")
    catchup_check_interval: int = Field(
        default=10, ge=1, le=100, description="Looked at every so many bars of a symbol."
    )


class HistoricalSeries(_Part):
    """Bars of the days before the session."""

    trailing_days: int = Field(gt=0, le=2000, description="Trading days, ending the day before.")
    intervals: list[Interval] = Field(min_length=1, description="Such as 1m and 1d.")
    apply_to: Literal["all"] | list[Symbol] = Field(default="all", description="«all», or some of the symbols.")


class HistoricalConfig(_Part):
    """What is loaded before the session."""

    enable_quality: bool = Field(default=True, description="Measure how complete it is; off: 100 %.")
    data: list[HistoricalSeries] = Field(default_factory=list, description="Windows of history.")


class GapFillerConfig(_Part):
    """How missing bars are asked for again; live only."""

    enable_session_quality: bool = Field(default=True, description="Measure how complete the session is; off: 100 %.")
    max_retries: int = Field(default=5, ge=1, le=20, description="Tries for each gap.")
    retry_interval_seconds: int = Field(default=60, ge=1, le=3600, description="Between two tries.")


class SessionIndicator(_Part):
    """An indicator that follows the session's bars."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$", description="Such as sma.")
    period: int = Field(default=0, ge=0, le=5000, description="In bars; 0 for those that have none.")
    interval: Interval = Field(description="Of the bars that it reads.")
    type: str = Field(
        default="", max_length=32, description="Kind, for people: trend, momentum, volatility, volume, support."
    )
    params: dict[str, float | int | bool | str] = Field(default_factory=dict, description="Further parameters.")

    @property
    def key(self) -> str:
        """Return the name under which it is found: ``sma_20_5m``, ``vwap_1m``."""
        return f"{self.name}_{self.period}_{self.interval}" if self.period else f"{self.name}_{self.interval}"


class HistoricalIndicator(SessionIndicator):
    """A figure of the days before the session, such as the average volume."""

    interval: Interval = Field(default="1d", description="Of the bars that it reads.")
    unit: Literal["days", "weeks", "bars"] = Field(default="days", description="Of the period.")


class IndicatorsConfig(_Part):
    """Indicators that are computed for every symbol."""

    session: list[SessionIndicator] = Field(default_factory=list, description="On the bars of the session.")
    historical: list[HistoricalIndicator] = Field(default_factory=list, description="On the days before.")


class ScanWindow(_Part):
    """When a scanner scans: from ``start`` every ``interval`` up to ``end``, in exchange time."""

    start: time = Field(description="First scan, local to the exchange.")
    end: time = Field(description="No scan after this.")
    interval: Intraday = Field(description="Such as 5m.")


class ScannerConfig(_Part):
    """A scanner of the session."""

    module: ModulePath
    enabled: bool = True
    pre_session: bool = Field(default=False, description="Scan once before the open.")
    regular_session: list[ScanWindow] = Field(default_factory=list, description="Scans during the session.")
    config: dict[str, Any] = Field(default_factory=dict, description="The scanner's own parameters.")

    @property
    def name(self) -> str:
        """Return the last part of the module."""
        return self.module.rpartition(".")[2]


class SessionDataConfig(_Part):
    """What data a session has and what reads it."""

    symbols: list[Symbol] = Field(default_factory=list, max_length=MAX_SYMBOLS, description="From the first minute on.")
    streams: list[Interval] = Field(min_length=1, description="Intervals; the finest is streamed, others derived.")
    streaming: StreamingConfig = Field(default_factory=StreamingConfig)
    historical: HistoricalConfig = Field(default_factory=HistoricalConfig)
    gap_filler: GapFillerConfig = Field(default_factory=GapFillerConfig)
    indicators: IndicatorsConfig = Field(default_factory=IndicatorsConfig)
    scanners: list[ScannerConfig] = Field(default_factory=list)
    strategies: list[Strategy] = Field(default_factory=list)


class TradingConfig(_Part):
    """Limits of the session, in the instruments' currency; those of the account hold beside them."""

    max_buying_power: Money = Field(default=Decimal(100_000), description="Of all positions together.")
    max_per_trade: Money = Field(default=Decimal(10_000), description="Of one order.")
    max_per_symbol: Money = Field(default=Decimal(20_000), description="Of one position.")
    max_open_positions: int = Field(default=10, gt=0, le=1000, description="Symbols held at once.")


class ApiConfig(_Part):
    """Who serves data and orders: ``ib`` live, ``sim`` in a backtest. Empty: as the mode is."""

    data_api: Literal["ib", "sim"] | None = None
    trade_api: Literal["ib", "sim"] | None = None
    data_source: str = Field(
        default="market_data",
        pattern=r"^(market_data|sample|parquet:[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\.parquet)$",
        description="Stored bars: market_data, sample, or parquet:NAME.parquet in MATS_HOME/bars.",
    )


class SessionConfig(_Part):
    """A whole session."""

    session_name: str = Field(default="session", pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$", description="Its name.")
    mode: Mode = Field(description="live or backtest.")
    exchange_group: str = Field(
        default="US_EQUITY", pattern=r"^[A-Z][A-Z0-9_]{1,31}$", description="Whose hours count."
    )
    backtest_config: BacktestConfig | None = Field(default=None, description="Needed in a backtest.")
    session_data_config: SessionDataConfig
    trading_config: TradingConfig = Field(default_factory=TradingConfig)
    api_config: ApiConfig = Field(default_factory=ApiConfig)

    @property
    def run_mode(self) -> RunMode:
        """Return how the clock moves."""
        if self.mode is Mode.LIVE:
            return RunMode.LIVE
        speed = self.backtest_config.speed_multiplier if self.backtest_config is not None else 0
        return RunMode.CLOCK_DRIVEN if speed else RunMode.DATA_DRIVEN
