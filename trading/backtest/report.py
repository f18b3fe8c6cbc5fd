"""A backtest as one HTML file that needs nothing else: figures, curves, trades on prices, months, provenance.

Owns: what is shown and how it is written. Leaves: figures (``metrics``, ``portfolio.metrics``), drawing (uPlot, shipped
with MATS and put into the file). Rule: the file asks no server for anything; every text from a strategy is escaped; an
unknown figure is a dash with its reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from django.conf import settings
from markupsafe import Markup

from portfolio.metrics import by_month
from strategies.bar_series import moment_of
from trading.backtest.contracts import BacktestResult, StrategyOutcome
from trading.backtest.curves import curves_of, price_chart
from trading.backtest.figures import Cell, figure_rows
from trading.backtest.launch import Launch
from trading.backtest.metrics import daily_returns
from trading.backtest.wish import BacktestWish

MOST_FILLS = 2_000
MOST_CHARTS = 12
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_VENDOR = "vendor/uplot-1.6.32"


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
