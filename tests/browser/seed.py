"""Fill the tables as an engine would leave them, and tell the pages as an engine would, without an engine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction

from portfolio.models import (
    Account,
    CashBalance,
    EquitySnapshot,
    Execution,
    Instrument,
    Mark,
    Position,
)
from strategies.models import Strategy
from trading.engine import doorbell
from trading.models import EngineEvent, EngineLease, Order, StrategyRun

ACCOUNT = "DU1000001"
PASSWORD = "correct horse battery"
INSTRUMENTS = {
    265598: ("AAPL", Decimal("227.52")),
    756733: ("SPY", Decimal("587.14")),
    272093: ("MSFT", Decimal("417.3")),
}
OWNERS = {"TREND": 265598, "REVERT": 756733, "PAIRS": 272093}


def now() -> datetime:
    """Return the present."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """Write a time as events do."""
    return moment.isoformat().replace("+00:00", "Z")


def tell(kind: str, payload: Mapping[str, Any], strategy: str = "") -> int:
    """Commit one event, ring, return its id."""
    with transaction.atomic():
        event = EngineEvent.objects.create(at=now(), kind=kind, strategy=strategy, payload=dict(payload))
    doorbell.ring()
    return event.id


def fill_payload(exec_id: str, strategy: str = "TREND", **changes: Any) -> dict[str, Any]:
    """Describe a fill of 25 AAPL."""
    return {
        "exec_id": exec_id,
        "strategy": strategy,
        "order_ref": f"{strategy}/01TEST",
        "con_id": 265598,
        "symbol": "AAPL",
        "side": "BUY",
        "quantity": "25",
        "price": "227.41",
        "currency": "USD",
        "executed_at": iso(now()),
        "commission": None,
        "position": "25",
        "average_cost": "227.41",
        "realized_pnl": "0",
        **changes,
    }


def user(name: str = "operator", *, is_superuser: bool = True) -> Any:
    """Return a user with the known password."""
    make = get_user_model().objects.create_superuser if is_superuser else get_user_model().objects.create_user
    return make(name, password=PASSWORD)


def strategies() -> None:
    """Write three strategies: one runs, one failed, one is stopped."""
    rows = [
        (
            "TREND",
            "Trend following",
            "0.4",
            "#2f9bff",
            "ma_cross.py",
            {"symbol": "AAPL", "fast": 10, "slow": 30, "size": 25, "use_rth": True},
        ),
        (
            "REVERT",
            "Mean reversion",
            "0.35",
            "#f59f00",
            "mean_reversion.py",
            {"symbol": "SPY", "window": 20, "entry": 1.5},
        ),
        ("PAIRS", "Pairs", "0.1", "", "pairs.py", {}),
    ]
    for symbol, name, weight, color, filename, params in rows:
        Strategy.objects.create(
            symbol=symbol,
            name=name,
            color=color,
            filename=filename,
            params=params,
            active=True,
            min_weight=Decimal("0.1"),
            target_weight=Decimal(weight),
            max_weight=Decimal("0.6"),
            params_revision=3,
        )
    StrategyRun.objects.create(symbol="TREND", state="running", client_id=1, connected=True, started_at=now())
    StrategyRun.objects.create(symbol="REVERT", state="running", client_id=2, connected=True, started_at=now())
    StrategyRun.objects.create(
        symbol="PAIRS", state="failed", message="ZeroDivisionError: division by zero in on_bar (pairs.py line 41)"
    )


def engine(**status: Any) -> None:
    """Write a lease that looks alive for an hour."""
    connections = [
        {
            "client_id": 0,
            "role": "master",
            "name": "Master",
            "connected": True,
            "host": "127.0.0.1",
            "port": 7497,
            "message": "",
        },
        {
            "client_id": 99,
            "role": "queue",
            "name": "Message queue",
            "connected": True,
            "host": "127.0.0.1",
            "port": 7497,
            "message": "",
        },
        {
            "client_id": 1,
            "role": "strategy",
            "name": "TREND",
            "connected": True,
            "host": "127.0.0.1",
            "port": 7497,
            "message": "",
        },
        {
            "client_id": 2,
            "role": "strategy",
            "name": "REVERT",
            "connected": True,
            "host": "127.0.0.1",
            "port": 7497,
            "message": "",
        },
    ]
    EngineLease.objects.update_or_create(
        name="engine",
        defaults={
            "epoch": 7,
            "holder": "host:1:test",
            "expires_at": now() + timedelta(hours=1),
            "heartbeat_at": now(),
            "status": {
                "state": "running",
                "message": "",
                "account": ACCOUNT,
                "connections": connections,
                "queue": {"size": 0, "high_water": 214, "coalesced": 31, "spilled": 0},
                "memory_mb": 186.4,
                "threads": 14,
                "version": "0.1.0",
                **status,
            },
        },
    )


def books() -> None:
    """Write an account with positions, executions, marks, cash and an hour of equity."""
    account = Account.objects.create(account_id=ACCOUNT, base_currency="USD", opened_at=now())
    instruments = {
        con_id: Instrument.objects.create(con_id=con_id, symbol=symbol, sec_type="STK", currency="USD")
        for con_id, (symbol, _) in INSTRUMENTS.items()
    }
    for con_id, (_, mark) in INSTRUMENTS.items():
        Mark.objects.create(instrument=instruments[con_id], price=mark, marked_at=now())
    for owner, con_id in {**OWNERS, "Discretionary": 756733}.items():
        price = INSTRUMENTS[con_id][1]
        Position.objects.create(
            account=account,
            owner=owner,
            instrument=instruments[con_id],
            updated_at=now(),
            quantity=(quantity := Decimal(400 if owner != "REVERT" else -300)),
            cost_basis=quantity * (price - Decimal("1.37")),
            realized_pnl=Decimal("812.4"),
        )
        CashBalance.objects.create(
            account=account, owner=owner, currency="USD", amount=Decimal("214310.22"), updated_at=now()
        )
    _executions(account, instruments)
    _equity(account)
    Order.objects.create(
        order_ref="TREND/01JD5Q8Z3V0000000000000001",
        owner="TREND",
        state="accepted",
        con_id=265598,
        symbol="AAPL",
        sec_type="STK",
        side="SELL",
        quantity=25,
        order_type="LMT",
        limit_price=Decimal("229.5"),
        created_at=now(),
        updated_at=now(),
        client_id=1,
    )


def _executions(account: Account, instruments: Mapping[int, Instrument]) -> None:
    owners = [*OWNERS, "Discretionary"]
    for number in range(40):
        owner = owners[(number * 7) % 11 % 4]
        con_id = OWNERS.get(owner, 756733)
        sign = 1 if number % 3 else -1
        Execution.objects.create(
            exec_id=f"0000e0d5.{number:08x}.01.01",
            family=f"0000e0d5.{number:08x}.01",
            revision=1,
            account=account,
            instrument=instruments[con_id],
            owner=owner,
            order_ref="",
            perm_id=number,
            client_id=1,
            order_id=number,
            side="BOT" if sign > 0 else "SLD",
            quantity=Decimal(sign * (25 + number % 4 * 50)),
            cum_quantity=Decimal(25),
            price=INSTRUMENTS[con_id][1] + Decimal(math.sin(number) * 0.8).quantize(Decimal("0.01")),
            executed_at=now() - timedelta(seconds=70 * (40 - number)),
            recorded_at=now(),
            commission=None if number == 39 else Decimal("1.00"),
            commission_currency="USD",
        )


def _equity(account: Account) -> None:
    starts = {"": 1_000_000, "TREND": 400_000, "REVERT": 350_000, "PAIRS": 100_000, "Discretionary": 150_000}
    rows = []
    for step in range(360):
        moment = now() - timedelta(seconds=10 * (360 - step))
        total = 0.0
        for place, (owner, start) in enumerate(list(starts.items())[1:]):
            change = 900 * math.sin(step / 40 + place) * (place + 1) / 2 + 3.1 * step * (1 if place != 1 else -0.7)
            total += change
            rows.append(_snapshot(account, owner, moment, start + change, change))
        rows.append(_snapshot(account, "", moment, starts[""] + total, total))
    EquitySnapshot.objects.bulk_create(rows)


def _snapshot(account: Account, owner: str, moment: datetime, equity: float, change: float) -> EquitySnapshot:
    return EquitySnapshot(
        account=account,
        owner=owner,
        taken_at=moment,
        currency="USD",
        equity=Decimal(f"{equity:.2f}"),
        cash=Decimal(f"{equity * 0.4:.2f}"),
        realized_pnl=Decimal(f"{change * 0.4:.2f}"),
        unrealized_pnl=Decimal(f"{change * 0.6:.2f}"),
    )


def stream() -> None:
    """Write what an engine told lately: account figures, bars, log lines."""
    tell(
        "account",
        {
            "net_liquidation": "1004812.37",
            "cash": "412903.18",
            "unrealized_pnl": "2190.44",
            "realized_pnl": "1733.9",
            "currency": "USD",
            "at": iso(now()),
        },
    )
    bars = []
    for step in range(400):
        close = 226.9 + 0.7 * math.sin(step / 37) + 0.25 * math.sin(step / 5)
        start = iso((now() - timedelta(seconds=5 * (400 - step))).replace(microsecond=0))
        bar = {
            "con_id": 265598,
            "symbol": "AAPL",
            "start": start,
            "open": f"{close:.2f}",
            "high": f"{close + 0.1:.2f}",
            "low": f"{close - 0.1:.2f}",
            "close": f"{close:.2f}",
            "volume": "1200",
            "seconds": 5,
        }
        bars.append(EngineEvent(at=now(), kind="bar", strategy="", payload=bar))
    EngineEvent.objects.bulk_create(bars)
    lines = [
        ("info", "", "Lease acquired, epoch 7", "trading.engine.lease"),
        ("info", "", "Connected to 127.0.0.1:7497 as client 0 (account DU1000001)", "trading.ib.connection"),
        ("info", "", "Reconciled: 3 instruments agree with IB; orders may flow", "trading.engine.master"),
        ("info", "TREND", "Crossed up: fast 227.31 above slow 227.02, buying 25", "strategy.TREND"),
        ("warning", "REVERT", "Spread of SPY is 0.06, wider than 0.05: waiting", "strategy.REVERT"),
        (
            "error",
            "PAIRS",
            "ZeroDivisionError: division by zero in on_bar (pairs.py line 41); stopped after 3 restarts",
            "trading.engine.runner",
        ),
    ]
    for level, strategy, text, logger in lines:
        tell("log", {"level": level, "strategy": strategy, "text": text, "logger": logger}, strategy)


def everything() -> None:
    """Write a whole console."""
    strategies()
    engine()
    books()
    stream()


def prune_up_to(last: int) -> None:
    """Forget events up to an id, as the engine does by age."""
    EngineEvent.objects.filter(id__lte=last).delete()
