"""A run's figures in words, for page, comparison and report: one row a figure, one cell a strategy. Pure.

Rule: a figure that is not known is a dash with its reason, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

_FIGURES = (
    ("Start cash", "start_cash", "money"),
    ("Equity at the end", "equity", "money"),
    ("Profit", "profit", "money"),
    ("Return", "total_return", "percent"),
    ("A year (CAGR)", "cagr", "percent"),
    ("Volatility, yearly", "volatility", "percent"),
    ("Sharpe", "sharpe", "ratio"),
    ("Sortino", "sortino", "ratio"),
    ("Deepest drawdown", "max_drawdown", "percent"),
    ("Calmar", "calmar", "ratio"),
    ("Realised, before fees", "realized", "money"),
    ("Fees", "fees", "money"),
    ("Dividends", "dividends", "money"),
    ("Closed trades", "trades", "count"),
    ("Win rate", "win_rate", "percent"),
    ("Profit factor", "profit_factor", "ratio"),
    ("Average win", "average_win", "money"),
    ("Average loss", "average_loss", "money"),
    ("Fills", "fills", "count"),
    ("Signals", "signals", "count"),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure in words."""

    text: str
    reason: str = ""
    sign: str = ""  # gain, loss or empty


def figure_rows(metrics: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the figures as rows: a title and a cell for each strategy, in the metrics' order."""
    return [
        {"title": title, "key": key, "cells": [_cell(found, key, kind) for found in metrics.values()]}
        for title, key, kind in _FIGURES
    ]


def _cell(found: Mapping[str, Any], key: str, kind: str) -> Cell:
    value = found.get(key)
    if value is None:
        return Cell("–", str(found.get("reasons", {}).get(key, "It is not defined.")))
    number = Decimal(str(value))
    sign = "" if key not in ("profit", "total_return", "cagr") or not number else "gain" if number > 0 else "loss"
    if kind == "money":
        return Cell(f"{number:,.2f}", "", sign)
    if kind == "percent":
        return Cell(f"{number * 100:,.2f} %", "", sign)
    return Cell(f"{number:,.2f}" if kind == "ratio" else f"{int(number):,}", "", sign)
