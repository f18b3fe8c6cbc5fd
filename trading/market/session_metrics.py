"""The figures that a session shows: totals, strategies, symbols, scanners; JSON-able, read at any moment by any thread.

Rule: what is not known is None, never zero; decimals are text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from strategies.reactive import LOW_QUALITY

if TYPE_CHECKING:
    from trading.market.coordinator import SessionCoordinator


_COUNTS = ("notifications_processed", "signals_generated", "errors", "overruns")


class Totals:
    """What the strategies of the days before counted: each day's begin at zero."""

    def __init__(self) -> None:
        self._before: dict[str, Counter[str]] = {}

    def carry(self, metrics: Mapping[str, Any]) -> None:
        """Keep the figures of a day that is over."""
        for row in metrics["strategies"]:
            counts = self._before.setdefault(row["strategy_name"], Counter())
            counts.update({name: int(row[name]) for name in _COUNTS})

    def of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a strategy's figures of today with those of the days before."""
        before = self._before.get(row["strategy_name"], Counter())
        return {**row, **{name: row[name] + before[name] for name in _COUNTS}}


def metrics_of(coordinator: SessionCoordinator) -> dict[str, Any]:
    """Return all figures of a session as they are now."""
    ports = coordinator.ports
    told = ports.strategies.get_metrics()
    money = ports.desk.figures() if ports.desk is not None else ports.venue.figures()
    rows = [coordinator.totals.of(row) for row in told["strategies"]]
    return {
        "totals": {
            "bars": ports.processor.bars,
            "notifications": sum(row["notifications_processed"] for row in rows),
            "signals": sum(row["signals_generated"] for row in rows),
            "errors": sum(row["errors"] for row in rows),
            "overruns": sum(row["overruns"] for row in rows),
            "fills": _sum(money, "fills"),
            "denied": _sum(money, "denied"),
        },
        "strategies": [{**row, **money.get(row["strategy_name"], {})} for row in rows],
        "symbols": symbol_rows(coordinator),
        "scanners": coordinator.scanners.status(),
        "slowest_strategy": told["slowest_strategy"],
    }


def symbol_rows(coordinator: SessionCoordinator) -> list[dict[str, Any]]:
    """Return every symbol with the quality and the lag of its base bars."""
    ports, symbols = coordinator.ports, coordinator.symbols
    rows = []
    for entry in symbols.rows():
        quality = ports.session_data.get_bar_quality(entry.symbol, symbols.base)
        rows.append(
            {
                "symbol": entry.symbol,
                "added_by": entry.added_by,
                "bars": entry.bars,
                "quality": round(quality, 2),
                "is_poor": quality < LOW_QUALITY,
                "lag_s": ports.processor.lag.lag_s(entry.symbol),
                "is_late": ports.processor.lag.is_late(entry.symbol),
            }
        )
    return rows


def _sum(money: dict[str, dict[str, Any]], name: str) -> int | None:
    known = [row[name] for row in money.values() if name in row]
    return sum(known) if known else None
