"""The figures that a session shows: totals, strategies, symbols, scanners; JSON-able, read at any moment by any thread.

Rule: what is not known is None, never zero; decimals are text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strategies.reactive import LOW_QUALITY

if TYPE_CHECKING:
    from trading.market.coordinator import SessionCoordinator


def metrics_of(coordinator: SessionCoordinator) -> dict[str, Any]:
    """Return all figures of a session as they are now."""
    ports = coordinator.ports
    told = ports.strategies.get_metrics()
    money = ports.desk.figures() if ports.desk is not None else ports.venue.figures()
    strategies = [{**row, **money.get(row["strategy_name"], {})} for row in told["strategies"]]
    return {
        "totals": {
            "bars": ports.processor.bars,
            "notifications": told["total_notifications_processed"],
            "signals": told["total_signals_generated"],
            "errors": told["total_errors"],
            "overruns": sum(row["overruns"] for row in told["strategies"]),
            "fills": _sum(money, "fills"),
            "denied": _sum(money, "denied"),
        },
        "strategies": strategies,
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
