"""Which log records reach the pages, and as whose."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from strategies.attribution import enter
from trading.engine.loglines import EventLogHandler, RateLimit

Lines = list[tuple[str, str, str]]


def emitted(name: str, level: int = logging.INFO, running: str = "", **extra: Any) -> Lines:
    """Return what the handler passes on of one record, emitted on a thread that may be a running strategy's."""
    lines: Lines = []
    handler = EventLogHandler(lambda level, symbol, text, _: lines.append((level, symbol, text)))
    record = logging.makeLogRecord({"name": name, "levelno": level, "levelname": logging.getLevelName(level), **extra})
    record.msg = "text"

    def _emit() -> None:
        if running:
            enter(running)
        handler.emit(record)

    thread = threading.Thread(target=_emit)
    thread.start()
    thread.join(10)
    return lines


def test_a_record_of_strategy_code_belongs_to_its_strategy_whatever_its_logger() -> None:
    for name in ("root", "mats_strategy_mine_1", "my.own", "strategies.base"):
        assert emitted(name, running="ALPHA") == [("info", "ALPHA", "text")]


def test_a_named_strategy_wins_over_the_thread() -> None:
    assert emitted("trading.x", running="ALPHA", strategy="BETA") == [("info", "BETA", "text")]
    assert emitted("trading.x", running="ALPHA", strategy="") == [("info", "", "text")]


def test_outside_of_strategies_only_our_own_loggers_count() -> None:
    assert emitted("trading.engine") == [("info", "", "text")]
    assert emitted("my.own") == []


@pytest.mark.parametrize(("level", "count"), [(logging.INFO, 0), (logging.WARNING, 1)])
def test_libraries_in_strategy_code_are_heard_from_warnings_on(level: int, count: int) -> None:
    assert len(emitted("ib_async.wrapper", level, running="ALPHA")) == count


def test_a_record_for_the_file_alone_stays_there() -> None:
    assert emitted("strategies.life", logging.ERROR, running="ALPHA", page=False) == []


def test_a_noisy_strategy_does_not_silence_another() -> None:
    lines: list[str] = []
    handler = EventLogHandler(lambda level, symbol, text, _: lines.append(symbol), RateLimit(burst=2, clock=lambda: 0))
    for symbol in ("ALPHA", "ALPHA", "ALPHA", "BETA"):
        handler.emit(logging.makeLogRecord({"name": "root", "levelno": logging.INFO, "msg": "x", "strategy": symbol}))
    assert lines == ["ALPHA", "ALPHA", "BETA"]
