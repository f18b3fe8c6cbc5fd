"""Gather what a console page shows at the moment it is rendered; events carry it on from there.

Owns: the page states (dashboard, strategy). Leaves: single reads (``queries.py``, ``portfolio.queries``), drawing.
Rule: the event cursor is read first, so that what happens meanwhile arrives again as an event; pages apply events by
key, so that a fact told twice is shown once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from portfolio import queries as books
from portfolio.models import Account, AccountValue, EquitySnapshot
from strategies.models import DISCRETIONARY, Strategy
from strategies.params import as_object
from trading import queries
from trading.engine.events import iso, plain
from trading.queries import Row

PALETTE = ("#2f9bff", "#f59f00", "#2fb344", "#ae3ec9", "#e8590c", "#17a2b8", "#d6336c", "#74b816")
FOREIGN = "#8a94a6"
SIDES = {"BOT": "BUY", "SLD": "SELL"}
FILLS_SHOWN = 60
LOGS_SHOWN = 80
EQUITY_WINDOW = timedelta(hours=6)
EQUITY_POINTS = 720
ACCOUNT_TAGS = {
    "NetLiquidation": "net_liquidation",
    "TotalCashBalance": "cash",
    "TotalCashValue": "cash",
    "UnrealizedPnL": "unrealized_pnl",
    "RealizedPnL": "realized_pnl",
}


def colors() -> dict[str, str]:
    """Return the colour of every owner: the strategy's own, else one of the palette by order."""
    rows = Strategy.objects.values_list("symbol", "color")
    taken = {color.lower() for _, color in rows}
    free = itertools.cycle([color for color in PALETTE if color not in taken] or PALETTE)
    return {**{symbol: color or next(free) for symbol, color in rows}, DISCRETIONARY: FOREIGN}


def account_row() -> Row:
    """Return account id, base currency and IB's latest figures in the words of the ``account`` event."""
    account = Account.objects.filter(pk=books.account_id_or_none()).first()
    row: Row = dict.fromkeys(("net_liquidation", "cash", "unrealized_pnl", "realized_pnl", "at", "day_start"))
    row |= {"account_id": account.account_id if account else "", "currency": account.base_currency if account else ""}
    if account is not None:
        found = AccountValue.objects.filter(
            account=account, tag__in=list(ACCOUNT_TAGS), currency__in=[account.base_currency, "BASE"]
        )
        for value in found.order_by("currency"):
            row[ACCOUNT_TAGS[value.tag]] = value.value
    told = queries.recent_events("account", 1)
    if told:
        row |= {key: value for key, value in told[0]["payload"].items() if value is not None}
    start = queries.day_start_equity([""]).get("")
    row["day_start"] = plain(start)
    if row["net_liquidation"] is not None and start is not None:
        row["day_pnl"] = plain(Decimal(row["net_liquidation"]) - start)
    return row


def positions(owner: str | None = None) -> list[Row]:
    """Return positions that are not flat, with mark, value and unrealised profit where a mark is known."""
    return [_position_row(view) for view in books.positions(owner=owner)]


def _position_row(view: books.PositionView) -> Row:
    return {
        "strategy": view.owner,
        "con_id": view.con_id,
        "symbol": view.symbol,
        "currency": view.currency,
        "multiplier": plain(view.multiplier),
        "quantity": plain(view.quantity),
        "average_cost": plain(view.average_cost),
        "realized_pnl": plain(view.realized_pnl),
        "mark": plain(view.mark),
        "stale": view.stale,
        "market_value": plain(view.market_value),
        "unrealized_pnl": plain(view.unrealized_pnl),
    }


def exposure(rows: Sequence[Row], currency: str) -> Row:
    """Return gross exposure of the account in one currency, and what could not be counted.

    Positions of all owners net per instrument first: the account cannot be long and short the same thing.
    """
    net: dict[int, Decimal] = {}
    uncounted: set[str] = set()
    for row in rows:
        if row["market_value"] is None or row["currency"] != currency:
            uncounted.add(row["symbol"])
        else:
            net[row["con_id"]] = net.get(row["con_id"], Decimal(0)) + Decimal(row["market_value"])
    gross = plain(sum((abs(value) for value in net.values()), Decimal(0)))
    unknown = not currency or (uncounted and not net)
    return {"gross": None if unknown else gross, "uncounted": sorted(uncounted)}


def fills(owner: str | None = None, limit: int = FILLS_SHOWN) -> list[Row]:
    """Return the latest executions in force, newest first, in the words of the ``fill`` event."""
    return [
        {
            "exec_id": view.exec_id,
            "strategy": view.owner,
            "order_ref": view.order_ref,
            "con_id": view.con_id,
            "symbol": view.symbol,
            "side": SIDES.get(view.side, view.side),
            "quantity": plain(view.quantity),
            "price": plain(view.price),
            "currency": view.currency,
            "executed_at": iso(view.executed_at),
            "commission": plain(view.commission),
        }
        for view in books.fills(owner, limit)
        if not view.superseded
    ]


def equity_series(owners: Sequence[str] | None = None) -> Row:
    """Return equity by owner over the window, aligned on common moments.

    Shape: ``{"at": [epoch seconds], "owners": {owner: [number or None, …]}}``; numbers are for drawing only.
    """
    since = timezone.now() - EQUITY_WINDOW
    if owners is None:
        owners = list(EquitySnapshot.objects.filter(taken_at__gte=since).values_list("owner", flat=True).distinct())
    by_moment: dict[float, dict[str, float]] = {}
    for owner in owners:
        for view in books.equity_series(owner, since, max_points=EQUITY_POINTS):
            by_moment.setdefault(view.taken_at.timestamp(), {})[owner] = float(view.equity)
    moments = sorted(by_moment)
    names = sorted({owner for figures in by_moment.values() for owner in figures})
    return {
        "at": moments,
        "owners": {name: [by_moment[moment].get(name) for moment in moments] for name in names},
    }


def open_breaks() -> list[Row]:
    """Return open differences between IB and the books in the words of the ``break`` event."""
    return [
        {
            "kind": view.kind,
            "currency": view.currency,
            "con_id": view.con_id,
            "symbol": view.symbol,
            "ib_quantity": plain(view.ib_quantity),
            "ledger_quantity": plain(view.ledger_quantity),
            "state": "open",
        }
        for view in books.open_breaks()
    ]


def logs(strategy: str | None = None, limit: int = LOGS_SHOWN) -> list[Row]:
    """Return the latest log lines, oldest first, each with its event id."""
    rows = queries.recent_events("log", limit, strategy)
    return [{"id": row["id"], "at": row["at"], **row["payload"]} for row in reversed(rows)]


def connections(state: Row) -> list[Row]:
    """Return one flat list of connections: master, message queue, strategies by client id."""
    told = queries.connection_status(state)
    strategies = sorted(told["strategy_connections"], key=lambda row: row.get("client_id") or 0)
    return [told["master_connection"], told["message_queue_connection"], *told["shared_connections"], *strategies]


def _colored(rows: list[Row], palette: dict[str, str]) -> list[Row]:
    return [{**row, "color": palette.get(row["strategy"], FOREIGN)} for row in rows]


def _strategy_rows(palette: dict[str, str], symbols: Sequence[str] | None = None) -> list[Row]:
    """Return strategy rows with colour and the one notice worth a line: why it cannot load, else its last message."""
    return [
        {**row, "color": palette[row["symbol"]], "notice": row["load_error"] or row["message"]}
        for row in queries.strategy_rows(symbols)
    ]


def dashboard_state() -> dict[str, Any]:
    """Return everything that the dashboard shows."""
    last = queries.last_event_id()
    palette = colors()
    engine = queries.engine_state()
    account = account_row()
    held = positions()
    return {
        "last": last,
        "engine": engine,
        "account": account,
        "strategies": _strategy_rows(palette),
        "positions": held,
        "exposure": exposure(held, account["currency"]),
        "connections": connections(engine),
        "fills": _colored(fills(), palette),
        "logs": logs(),
        "equity": equity_series(),
        "breaks": open_breaks(),
        "colors": palette,
    }


def strategy_state(strategy: Strategy) -> dict[str, Any]:
    """Return everything that a strategy's page shows."""
    symbol = strategy.symbol
    last = queries.last_event_id()
    palette = colors()
    shown_fills = _colored(fills(symbol), palette)
    held = positions(symbol)
    instruments = {row["con_id"]: row["symbol"] for row in [*held, *shown_fills]}
    return {
        "last": last,
        "engine": queries.engine_state(),
        "account": account_row(),
        "strategy": _strategy_rows(palette, [symbol])[0],
        "positions": held,
        "cash": [{"currency": view.currency, "amount": plain(view.amount)} for view in books.cash(owner=symbol)],
        "orders": queries.orders(symbol, open_only=True, limit=50),
        "fills": shown_fills,
        "logs": logs(symbol),
        "equity": equity_series([symbol]),
        "breaks": open_breaks(),
        "colors": palette,
        "instruments": [{"con_id": con_id, "symbol": name} for con_id, name in instruments.items()],
        "bars": {str(con_id): queries.recent_bars(con_id) for con_id in list(instruments)[:4]},
    }


def reactive_figures(strategy: Strategy, engine: Row) -> Row | None:
    """Return what the engine last told of a reactive strategy's bars and signals; None when it runs none."""
    told = engine["status"].get("reactive") or {}
    found: Row | None = told.get(strategy.symbol) if engine["running"] else None
    return found


def weight_bar(strategy: Strategy) -> dict[str, str]:
    """Return the allowed band and the target as per cent of the bar's width."""
    low, target, high = (weight * 100 for weight in (strategy.min_weight, strategy.target_weight, strategy.max_weight))
    return {"min": f"{low:.2f}", "span": f"{high - low:.2f}", "target": f"{min(target, Decimal('98.8')):.2f}"}


def parameter_rows(params: object) -> list[Row]:
    """Return parameters by name with their type in words."""
    return [
        {"name": name, "value": _shown(value), "type": _type_name(value)}
        for name, value in sorted(as_object(params).items())
    ]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    return UNSET if value is None else str(value)


UNSET = "not set"
_TYPES: dict[type, str] = {bool: "yes/no", int: "integer", float: "number", str: "text", list: "list", dict: "object"}


def _type_name(value: object) -> str:
    return _TYPES.get(type(value), "")
