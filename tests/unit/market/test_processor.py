"""What becomes of the bars of one moment: all are worked on before anybody is told, and only what is new is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from strategies.bar_series import Bar, BarSeries
from tests.support.sessions import raw_session
from trading.market.lag import SECOND_NS
from trading.market.processor import DataProcessor
from trading.market.session_config import parse_session_config

MINUTE_NS = 60 * SECOND_NS


class Parts:
    """Store and strategies that note what is asked of them, in one list."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def begin_day(self, session: Any) -> None:
        self.calls.append(("begin_day",))

    def add_symbol(
        self,
        symbol: str,
        intervals: Iterable[str],
        history: Mapping[str, BarSeries],
        today: Sequence[Bar],
        *,
        light: bool,
    ) -> None:
        self.calls.append(("add", symbol, light))

    def remove_symbol(self, symbol: str) -> None:
        self.calls.append(("remove", symbol))

    def append(self, symbol: str, bar: Bar) -> Sequence[str]:
        """Every fifth minute makes a 5m bar, too."""
        self.calls.append(("append", symbol))
        return ["1m", "5m"] if bar.start_ns // MINUTE_NS % 5 == 4 else ["1m"]

    def get_bar_quality(self, symbol: str, interval: str) -> float:
        return 97.0

    def warm_up_bars(self) -> Mapping[str, int]:
        return {}

    def notify_strategies(self, symbol: str, interval: str, data_type: str = "bars") -> None:
        self.calls.append(("tell", symbol, interval))

    def wait_for_strategies(self, timeout: float | None = None) -> bool:
        self.calls.append(("wait",))
        return True

    def notify_quality(self, symbol: str, interval: str, quality: float) -> None:
        self.calls.append(("quality", symbol, interval, quality))

    def told(self) -> list[tuple[str, str]]:
        return [call[1:3] for call in self.calls if call[0] == "tell"]


def bar(minute: int) -> Bar:
    return Bar(minute * MINUTE_NS, 1.0, 1.0, 1.0, 1.0, 1.0)


def made(**changes: Any) -> tuple[Parts, DataProcessor]:
    parts = Parts()
    raw = raw_session([], speed=60, **changes)
    processor = DataProcessor(parse_session_config(raw), parts, parts)
    processor.activate()
    return parts, processor


def test_every_bar_of_a_moment_is_there_before_the_first_is_told() -> None:
    parts, processor = made()
    processor.process(5 * MINUTE_NS, [("AAPL", bar(4)), ("TSLA", bar(4))])
    assert [call[0] for call in parts.calls] == ["append"] * 2 + ["quality"] * 4 + ["tell"] * 4 + ["wait"]
    assert parts.told() == [("AAPL", "1m"), ("AAPL", "5m"), ("TSLA", "1m"), ("TSLA", "5m")]


def test_only_pairs_with_a_new_bar_are_told_and_each_once() -> None:
    parts, processor = made()
    processor.process(4 * MINUTE_NS, [("AAPL", bar(2)), ("AAPL", bar(3))])
    assert parts.told() == [("AAPL", "1m")]
    assert processor.bars == 2


def test_a_moment_without_bars_waits_for_nobody() -> None:
    parts, processor = made()
    processor.process(MINUTE_NS, [])
    assert parts.calls == []


@pytest.mark.parametrize("silence", ["light", "held", "not active"])
def test_bars_are_taken_in_silence(silence: str) -> None:
    parts, processor = made()
    if silence == "light":
        processor.add_symbol("AAPL", [], {}, [], light=True)
    elif silence == "held":
        processor.hold(True)
    else:
        processor.deactivate()
    processor.process(5 * MINUTE_NS, [("AAPL", bar(4))])
    assert ("append", "AAPL") in parts.calls
    assert parts.told() == []
    assert ("wait",) not in parts.calls


def test_a_light_symbol_that_is_loaded_in_full_is_told_from_then_on() -> None:
    parts, processor = made()
    processor.add_symbol("AAPL", [], {}, [], light=True)
    processor.process(MINUTE_NS, [("AAPL", bar(0))])
    processor.add_symbol("AAPL", [], {}, [], light=False)
    processor.process(2 * MINUTE_NS, [("AAPL", bar(1))])
    assert parts.told() == [("AAPL", "1m")]


def test_a_late_symbol_is_silent_until_it_caught_up_and_the_others_are_not() -> None:
    parts, processor = made(data={"streaming": {"catchup_threshold_seconds": 60, "catchup_check_interval": 1}})
    processor.process(3 * MINUTE_NS, [("AAPL", bar(0)), ("TSLA", bar(2))])
    assert parts.told() == [("TSLA", "1m")]
    assert processor.lag.lag_s("AAPL") == 120
    processor.process(4 * MINUTE_NS, [("AAPL", bar(1)), ("AAPL", bar(2)), ("AAPL", bar(3)), ("TSLA", bar(3))])
    assert parts.told() == [("TSLA", "1m"), ("AAPL", "1m"), ("TSLA", "1m")]


def test_from_bar_to_bar_nothing_is_late() -> None:
    parts = Parts()
    processor = DataProcessor(parse_session_config(raw_session([])), parts, parts)
    processor.activate()
    processor.process(600 * MINUTE_NS, [("AAPL", bar(0))])
    assert parts.told() == [("AAPL", "1m")]
    assert processor.lag.lag_s("AAPL") is None


def test_another_day_forgets_who_was_late_and_light() -> None:
    parts, processor = made(data={"streaming": {"catchup_threshold_seconds": 60, "catchup_check_interval": 1}})
    processor.add_symbol("TSLA", [], {}, [], light=True)
    processor.process(9 * MINUTE_NS, [("AAPL", bar(0))])
    session: Any = None
    processor.begin_day(session)
    processor.process(11 * MINUTE_NS, [("AAPL", bar(10)), ("TSLA", bar(10))])
    assert parts.told() == [("AAPL", "1m"), ("TSLA", "1m")]
