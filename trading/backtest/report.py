"""A backtest as one HTML file that needs nothing else: figures, curves, trades on prices, months, provenance.

Owns: what is shown and how it is written. Leaves: figures (``metrics``, ``portfolio.metrics``), drawing (uPlot, shipped
with MATS and put into the file). Rule: the file asks no server for anything; every text from a strategy is escaped; an
unknown figure is a dash with its reason. Curves are thinned to some thousand points, the turns kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from django.conf import settings
from markupsafe import Markup

from portfolio.metrics import by_month
from strategies.bar_series import BarSeries, Floats, Nanos, moment_of
from trading.backtest.contracts import BacktestResult, StrategyOutcome
from trading.backtest.launch import Launch
from trading.backtest.metrics import daily_returns
from trading.backtest.wish import BacktestWish

POINTS = 2_000
MOST_FILLS = 2_000
MOST_CHARTS = 12
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_VENDOR = "vendor/uplot-1.6.32"
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


def thin(values: Floats, points: int = POINTS) -> np.ndarray:
    """Return which rows to draw: of each stretch the first, the lowest and the highest, and the last of all."""
    count = len(values)
    if count <= points:
        return np.arange(count)
    edges = np.linspace(0, count, points // 3 + 1).astype(np.int64)
    kept = [0, count - 1]
    for first, last in pairwise(edges.tolist()):
        if last > first:
            part = values[first:last]
            kept += [first, first + int(np.argmin(part)), first + int(np.argmax(part))]
    return np.unique(np.array(kept))


def drawdown(equity: Floats, start: float) -> Floats:
    """Return how far each equity lies below the highest so far, as a fraction at most 0."""
    peak = np.maximum(np.maximum.accumulate(equity), start)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(peak > 0, equity / peak - 1, 0.0)


def curves_of(outcomes: Mapping[str, StrategyOutcome]) -> dict[str, Any]:
    """Return equity and drawdown of all strategies on one axis of seconds, thinned; None where one has no point."""
    chosen: list[Nanos] = []
    for outcome in outcomes.values():
        chosen.append(outcome.equity_ns[thin(outcome.equity_curve)])
    at = np.unique(np.concatenate(chosen)) if chosen else np.array([], dtype=np.int64)
    equity, fallen = [], []
    for outcome in outcomes.values():
        below = drawdown(outcome.equity_curve, float(outcome.start_cash))
        equity.append(_on(at, outcome.equity_ns, outcome.equity_curve))
        fallen.append(_on(at, outcome.equity_ns, below))
    return {"at": (at // 1_000_000_000).tolist(), "equity": equity, "drawdown": fallen, "names": list(outcomes)}


def _on(at: Nanos, stamps: Nanos, values: Floats) -> list[float | None]:
    if not len(stamps):
        return [None] * len(at)
    place = np.searchsorted(stamps, at, side="right") - 1
    return [round(float(values[n]), 6) if n >= 0 else None for n in place.tolist()]


def price_chart(series: BarSeries, result: BacktestResult) -> dict[str, Any]:
    """Return a symbol's closes with its fills marked, on one axis of seconds."""
    starts, columns = series.whole()
    closes = columns[3]
    inside = (starts >= int(result.started.timestamp() * 1e9)) & (starts <= int(result.ended.timestamp() * 1e9))
    starts, closes = starts[inside], closes[inside]
    rows = thin(closes)
    fills = [fill for fill in result.fills if fill.symbol == series.symbol]
    at = np.unique(np.concatenate((starts[rows], np.array([fill.time_ns for fill in fills], dtype=np.int64))))
    bought, sold = (
        {f.time_ns: float(f.price) for f in fills if (f.quantity > 0) is wanted} for wanted in (True, False)
    )
    return {
        "symbol": series.symbol,
        "at": (at // 1_000_000_000).tolist(),
        "close": _on(at, starts, closes),
        "bought": [bought.get(one) for one in at.tolist()],
        "sold": [sold.get(one) for one in at.tolist()],
    }


def month_rows(outcome: StrategyOutcome) -> list[dict[str, Any]]:
    """Return a row a year with the return of each month and of the year."""
    returns = daily_returns(outcome.equity_ns, outcome.equity_curve, float(outcome.start_cash))
    if not returns:
        return []
    return [
        {"year": year, "cells": [_month(value) for value in [*months, total]]}
        for year, months, total in by_month(returns)
    ]


def _month(value: float | None) -> Cell:
    if value is None:
        return Cell("")
    return Cell(f"{value * 100:.1f} %", "", "gain" if value > 0 else "loss" if value < 0 else "")


def render_report(
    name: str, wish: BacktestWish, launch: Launch, result: BacktestResult, metrics: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return the whole file as text."""
    bases = [series for (_, interval), series in launch.spec.bars.items() if interval == launch.interval]
    prices = [price_chart(series, result) for series in bases[:MOST_CHARTS]]
    failed = {one: outcome.errors[0] for one, outcome in result.strategies.items() if outcome.errors}
    provenance = {
        "strategies": launch.strategies,
        "data": launch.data_versions,
        "wish": wish.model_dump(mode="json"),
    }
    return _template().render(
        name=name,
        symbols=", ".join(launch.symbols[:20]),
        interval=launch.interval,
        source=wish.source,
        start=f"{result.started:%Y-%m-%d %H:%M}",
        end=f"{result.ended:%Y-%m-%d %H:%M}",
        bars=f"{result.bars:,}",
        fill_count=f"{len(result.fills):,}",
        warnings=list(dict.fromkeys([*launch.notes, *result.warnings])),
        error="\n".join(f"{one}: {text}" for one, text in failed.items()),
        names=list(metrics),
        figures=figure_rows(metrics),
        prices=prices,
        months=[
            {"name": one, "rows": rows} for one, outcome in result.strategies.items() if (rows := month_rows(outcome))
        ],
        month_names=MONTHS,
        positions=[one._asdict() for outcome in result.strategies.values() for one in outcome.positions],
        fills=[_fill_row(fill) for fill in result.fills[:MOST_FILLS]],
        more_fills=max(0, len(result.fills) - MOST_FILLS),
        provenance=json.dumps(provenance, indent=2, default=str),
        data=_script_safe({**curves_of(result.strategies), "prices": prices}),
        uplot_js=Markup(_vendored("uPlot.iife.min.js")),  # noqa: S704 - shipped by us
        uplot_css=Markup(_vendored("uPlot.min.css")),  # noqa: S704 - shipped by us
    )


def _fill_row(fill: Any) -> dict[str, Any]:
    return {
        "at": f"{moment_of(fill.time_ns):%Y-%m-%d %H:%M:%S}",
        "strategy": fill.strategy,
        "symbol": fill.symbol,
        "quantity": f"{fill.quantity.normalize():f}",
        "price": f"{fill.price.normalize():f}",
        "fee": f"{fill.fee:,.2f}",
        "realized": f"{fill.realized:,.2f}",
        "sign": "gain" if fill.realized > 0 else "loss" if fill.realized < 0 else "",
        "order_type": fill.order_type,
    }


def _script_safe(data: Mapping[str, Any]) -> Markup:
    """Return JSON that no text in it can end the script element of."""
    text = json.dumps(data, allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))  # noqa: S704 - nothing in it ends it


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    folder = Path(__file__).resolve().parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html.j2")


@lru_cache(maxsize=4)
def _vendored(name: str) -> str:
    return (Path(settings.BASE_DIR) / "static" / _VENDOR / name).read_text(encoding="utf-8")
