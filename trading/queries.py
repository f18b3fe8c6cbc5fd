"""Read what the pages and the API show: engine, connections, strategies, orders, events, bars.

Owns: the joins across strategies, portfolio and trading that a reader needs.
Leaves: writing (``services.py``), tailing the event table (``live.py``), money-only reads (``portfolio.queries``).
Shape: rows are JSON-ready dicts in the words of the event payloads: decimals as plain text without exponent, times as
ISO 8601 UTC with ``Z``, unknown is None. So a page can start from a query and go on with events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, Max
from django.utils import timezone

from portfolio.models import EquitySnapshot, Position
from strategies.models import Strategy
from trading.engine.events import iso, order_payload, plain
from trading.engine.lifecycle import StrategyState
from trading.models import EngineEvent, EngineLease, Order, StrategyRun
from trading.orders.state import WORKING

Row = dict[str, Any]

MASTER_CLIENT_ID = 0
QUEUE_CLIENT_ID = 99
RECENT_SPAN = 100_000  # events looked through, newest first, for rare kinds: no page waits for a walk through all


def engine_state() -> Row:
    """Return running, epoch, heartbeat_at, age_s and the heartbeat's own figures (status).

    Units: ``age_s`` seconds since the last heartbeat, None when no engine ever ran.
    Running means that the lease is held and has not expired.
    """
    lease = EngineLease.objects.filter(name="engine").first()
    if lease is None:
        return {"running": False, "epoch": 0, "heartbeat_at": None, "age_s": None, "status": {}}
    now = timezone.now()
    age = None if lease.heartbeat_at is None else max(0.0, (now - lease.heartbeat_at).total_seconds())
    return {
        "running": bool(lease.holder) and lease.expires_at is not None and lease.expires_at > now,
        "epoch": lease.epoch,
        "heartbeat_at": iso(lease.heartbeat_at),
        "age_s": None if age is None else round(age, 1),
        "status": lease.status,
    }


def connection_status(state: Row | None = None) -> Row:
    """Return master, message queue, strategy and shared connections, link and budget as the engine last told.

    Nothing is connected while no engine runs, whatever its last heartbeat said.
    """
    state = engine_state() if state is None else state
    running = bool(state["running"])
    told = [dict(row) for row in state["status"].get("connections") or []]
    for row in told:
        row["connected"] = running and bool(row.get("connected"))
    by_role = {row.get("role"): row for row in told if row.get("role") != "strategy"}
    return {
        "engine_running": running,
        "master_connection": by_role.get("master") or _absent(MASTER_CLIENT_ID, "master", "Master"),
        "message_queue_connection": by_role.get("queue") or _absent(QUEUE_CLIENT_ID, "queue", "Message queue"),
        "strategy_connections": [
            {**row, "strategy_name": row.get("name", "")} for row in told if running and row.get("role") == "strategy"
        ],
        "shared_connections": [row for row in told if running and row.get("role") == "router"],
        "link": state["status"].get("link") if running else None,
        "budget": {
            name: one for name, one in (state["status"].get("budget") or {}).items() if running and name != "held"
        },
    }


def _absent(client_id: int, role: str, name: str) -> Row:
    return {
        "client_id": client_id,
        "role": role,
        "name": name,
        "connected": False,
        "host": None,
        "port": None,
        "message": "",
    }


def strategy_rows(symbols: Sequence[str] | None = None) -> list[Row]:
    """Return every strategy with its runtime state, positions count, equity and profit.

    Units: money in the strategy's currency; equity and profit are those of the latest equity snapshot, day profit is
    the change since ``day_start_equity``. None until a snapshot exists.
    """
    strategies = Strategy.objects.all() if symbols is None else Strategy.objects.filter(symbol__in=symbols)
    runs = StrategyRun.objects.in_bulk()
    running = bool(engine_state()["running"])
    owners = [strategy.symbol for strategy in strategies]
    latest = latest_equity(owners)
    day_start = day_start_equity(owners)
    counts: dict[str, int] = dict(
        Position.objects.exclude(quantity=0).values_list("owner").annotate(Count("instrument", distinct=True))
    )
    return [
        {
            **_strategy_facts(strategy),
            **_run_facts(runs.get(strategy.symbol), engine_running=running),
            **_profit_facts(latest.get(strategy.symbol), day_start.get(strategy.symbol)),
            "positions": counts.get(strategy.symbol, 0),
        }
        for strategy in strategies
    ]


def _strategy_facts(strategy: Strategy) -> Row:
    return {
        "symbol": strategy.symbol,
        "name": strategy.name or strategy.symbol,
        "description": strategy.description,
        "color": strategy.color,
        "filename": strategy.filename,
        "kind": strategy.kind,
        "active": strategy.active,
        "min_weight": plain(strategy.min_weight),
        "target_weight": plain(strategy.target_weight),
        "max_weight": plain(strategy.max_weight),
        "currency": strategy.currency,
        "params_revision": strategy.params_revision,
        "load_error": strategy.load_error,
        "synced": strategy.is_synced,
    }


def _run_facts(run: StrategyRun | None, *, engine_running: bool) -> Row:
    if run is None:
        run = StrategyRun(symbol="", state=StrategyState.STOPPED)
    state, message, connected = run.state, run.message, run.connected
    if not engine_running and state not in (StrategyState.STOPPED, StrategyState.FAILED):
        # A killed engine leaves the last word of its strategies behind; nothing runs without an engine.
        state, connected = StrategyState.STOPPED, False
        message = "The engine is not running."
    return {
        "state": str(state),
        "client_id": run.client_id,
        "connected": connected and engine_running,
        "message": message,
        "traceback": run.traceback,
        "restarts": run.restarts,
        "started_at": iso(run.started_at),
        "heartbeat_at": iso(run.heartbeat_at),
    }


def _profit_facts(latest: EquitySnapshot | None, start: Decimal | None) -> Row:
    if latest is None:
        return dict.fromkeys(("equity", "cash", "realized_pnl", "unrealized_pnl", "day_pnl", "day_start_equity"))
    return {
        "equity": plain(latest.equity),
        "cash": plain(latest.cash),
        "realized_pnl": plain(latest.realized_pnl),
        "unrealized_pnl": plain(latest.unrealized_pnl),
        "day_pnl": None if start is None else plain(latest.equity - start),
        "day_start_equity": plain(start),
    }


def latest_equity(owners: Sequence[str]) -> dict[str, EquitySnapshot]:
    """Return the latest equity snapshot of every owner that has one; owner ``""`` is the account."""
    return _last_per_owner(EquitySnapshot.objects.filter(owner__in=owners))


def day_start_equity(owners: Sequence[str], now: datetime | None = None) -> dict[str, Decimal]:
    """Return the equity against which the day's profit is measured: that of the last snapshot before 00:00 UTC.

    An owner that began today is measured against what it was given: its first equity less its profit by then. The
    account brings positions of its own, so its first snapshot is taken as it is.
    """
    moment = timezone.now() if now is None else now
    midnight = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    before = _last_per_owner(EquitySnapshot.objects.filter(owner__in=owners, taken_at__lt=midnight))
    found = {owner: snapshot.equity for owner, snapshot in before.items()}
    for owner in set(owners) - set(found):
        first = EquitySnapshot.objects.filter(owner=owner, taken_at__gte=midnight).order_by("taken_at").first()
        if first is not None:
            gained = (first.realized_pnl or Decimal(0)) + (first.unrealized_pnl or Decimal(0))
            found[owner] = first.equity - (gained if owner else 0)
    return found


def _last_per_owner(snapshots: Any) -> dict[str, EquitySnapshot]:
    ids = snapshots.values("owner").annotate(last=Max("id")).values("last")
    return {row.owner: row for row in EquitySnapshot.objects.filter(id__in=ids)}


def orders(owner: str | None = None, *, open_only: bool = False, limit: int = 100) -> list[Row]:
    """Return orders, newest first, in the words of the ``order`` event plus created_at, client_id and perm_id."""
    found = Order.objects.order_by("-created_at", "-id")
    if owner is not None:
        found = found.filter(owner=owner)
    if open_only:
        found = found.filter(state__in=[str(state) for state in WORKING])
    return [order_row(order) for order in found[:limit]]


def order_row(order: Order) -> Row:
    """Return one order in the words of the ``order`` event plus created_at, client_id and perm_id."""
    return {
        **order_payload(order),
        "created_at": iso(order.created_at),
        "client_id": order.client_id,
        "perm_id": order.perm_id,
    }


def event_row(event: EngineEvent) -> Row:
    """Return one event as the websocket sends it."""
    return {
        "id": event.id,
        "at": iso(event.at),
        "kind": event.kind,
        "strategy": event.strategy,
        "payload": event.payload,
    }


def last_event_id() -> int:
    """Return the id of the newest event, 0 when there is none."""
    return EngineEvent.objects.aggregate(last=Max("id"))["last"] or 0


def first_event_id() -> int:
    """Return the id of the oldest kept event, 0 when there is none."""
    return EngineEvent.objects.order_by("id").values_list("id", flat=True).first() or 0


def events_after(after: int, limit: int = 500, kinds: Iterable[str] | None = None) -> list[Row]:
    """Return events with a greater id, oldest first."""
    found = EngineEvent.objects.filter(id__gt=after).order_by("id")
    if kinds is not None:
        found = found.filter(kind__in=[str(kind) for kind in kinds])
    return [event_row(event) for event in found[:limit]]


def recent_events(kind: str, limit: int = 100, strategy: str | None = None) -> list[Row]:
    """Return the newest events of a kind, newest first."""
    found = EngineEvent.objects.filter(kind=kind, id__gt=last_event_id() - RECENT_SPAN).order_by("-id")
    if strategy is not None:
        found = found.filter(strategy=strategy)
    return [event_row(event) for event in found[:limit]]


def recent_bars(con_id: int, limit: int = 720, within: timedelta = timedelta(hours=6)) -> list[Row]:
    """Return the newest 5-second bars of an instrument, oldest first, each start once.

    Shape: the ``bar`` payload: con_id, symbol, start, open, high, low, close, volume, seconds.
    """
    since = timezone.now() - within
    oldest = last_event_id() - RECENT_SPAN
    found = EngineEvent.objects.filter(kind="bar", id__gt=oldest, payload__con_id=con_id, at__gte=since).order_by("-id")
    by_start: dict[str, Row] = {}
    for payload in found.values_list("payload", flat=True)[:limit]:
        by_start.setdefault(payload["start"], payload)
    return [by_start[start] for start in sorted(by_start)]
