"""Fill the tables of the books as an engine would leave them: journal, IB's holdings, breaks, alerts, statements."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal

from portfolio.models import (
    Account,
    AccountValue,
    Adjustment,
    Break,
    BrokerHolding,
    EquitySnapshot,
    Execution,
    FlexFinding,
    FlexStatement,
    HourlySnapshot,
    Instrument,
    Movement,
    ParkedReport,
    Position,
)
from tests.browser.seed import ACCOUNT, now
from trading.models import Alert

BY_HAND = "0000e0d5.aaaa0001.01.01"
SPY, AAPL = 756733, 265598


def everything() -> None:
    """Write all of it; the console's own seed goes first."""
    account = Account.objects.get(account_id=ACCOUNT)
    figures(account)
    journal(account)
    breaks(account)
    alerts()
    flex(account)
    hours(account)


def hours(account: Account) -> None:
    """Write sixty days of equity and hourly snapshots of the account and of TREND, one a day."""
    rows = []
    for day in range(60, 0, -1):
        hour = (now() - timedelta(days=day)).replace(hour=20, minute=0, second=0, microsecond=0)
        for owner, start in (("", 1_000_000), ("TREND", 400_000)):
            equity = Decimal(f"{start * (1 + 0.02 * math.sin(day / 5) + (60 - day) / 2000):.2f}")
            held = {
                "row_type": "POSITION",
                "con_id": AAPL,
                "symbol": "AAPL",
                "asset_class": "STK",
                "exchange": "SMART",
                "currency": "USD",
                "multiplier": "1",
                "quantity": str(400 + day),
                "avg_cost": "220",
                "realized_pnl": "0",
                "mark": "225",
                "marked_at": hour.isoformat(),
            }
            rows.append(
                HourlySnapshot(
                    account=account,
                    owner=owner,
                    hour=hour,
                    taken_at=hour,
                    last_movement=0,
                    currency="USD",
                    equity=equity,
                    cash=equity / 2,
                    realized_pnl=Decimal(0),
                    unrealized_pnl=Decimal(0),
                    positions=[held] if owner else [],
                )
            )
    HourlySnapshot.objects.bulk_create(rows)
    EquitySnapshot.objects.bulk_create(
        EquitySnapshot(
            account=account, owner=row.owner, taken_at=row.hour, currency="USD", equity=row.equity or 0, grain=86_400
        )
        for row in rows
    )


def figures(account: Account) -> None:
    """Write IB's figures: value, cash by currency, one fresh rate."""
    rows = [
        ("NetLiquidation", "USD", "1004812.37"),
        ("TotalCashValue", "USD", "857240.88"),
        ("TotalCashBalance", "USD", "858490.88"),
        ("TotalCashBalance", "EUR", "1200"),
        ("ExchangeRate", "EUR", "1.0873"),
    ]
    for tag, currency, value in rows:
        AccountValue.objects.create(account=account, tag=tag, currency=currency, value=value, updated_at=now())


def journal(account: Account) -> None:
    """Write a manual trade of 100 SPY on an opening of 300, as Discretionary, and what IB holds."""
    spy = Instrument.objects.get(con_id=SPY)
    position = Position.objects.get(owner="Discretionary", instrument=spy)
    position.quantity = Decimal(400)
    position.save()
    execution = Execution.objects.create(
        exec_id=BY_HAND,
        family=BY_HAND.rsplit(".", 1)[0],
        revision=1,
        account=account,
        instrument=spy,
        owner="Discretionary",
        order_ref="",
        perm_id=77,
        client_id=0,
        order_id=0,
        side="BOT",
        quantity=Decimal(100),
        cum_quantity=Decimal(100),
        price=Decimal("586.2"),
        executed_at=now() - timedelta(minutes=12),
        recorded_at=now(),
        commission=Decimal("1.05"),
        commission_currency="USD",
    )
    common = {"account": account, "owner": "Discretionary", "instrument": spy, "currency": "USD", "booked_at": now()}
    Movement.objects.create(
        **common, kind="opening", quantity=Decimal(300), price=Decimal(580), cash_after=Decimal(0), key="opening:spy"
    )
    Movement.objects.create(
        **common,
        kind="fill",
        execution=execution,
        quantity=Decimal(100),
        price=Decimal("586.2"),
        cash=Decimal("-58620"),
        cash_after=Decimal("-58620"),
        key=f"fill:{BY_HAND}",
    )
    for owner, con_id, quantity in (("TREND", AAPL, 400), ("REVERT", SPY, -300), ("PAIRS", 272093, 400)):
        values = {**common, "owner": owner, "instrument": Instrument.objects.get(con_id=con_id)}
        Movement.objects.create(
            **{
                **values,
                "kind": "transfer",
                "quantity": Decimal(quantity),
                "cash_after": Decimal(0),
                "key": f"given:{owner}",
            }
        )
    account.positions_at = now()
    account.save()
    held = {AAPL: 425, SPY: 100, 272093: 400}
    for con_id, quantity in held.items():
        BrokerHolding.objects.create(
            account=account, instrument_id=con_id, quantity=Decimal(quantity), average_cost=Decimal(200)
        )
    Adjustment.objects.create(
        account=account,
        kind="dividend",
        state="proposed",
        key="flex:889",
        instrument_id=AAPL,
        details={"con_id": AAPL, "currency": "USD", "amount": "100"},
        effective_at=now() - timedelta(days=1),
        actor="flex",
        source="flex",
        reason="Flex statement of yesterday",
        created_at=now(),
    )


def breaks(account: Account) -> None:
    """Write a broken position with its cause, a broken cash balance, and a parked report."""
    Break.objects.create(
        account=account,
        instrument_id=AAPL,
        ib_quantity=Decimal(425),
        ledger_quantity=Decimal(400),
        opened_at=now() - timedelta(minutes=3),
        cause={
            "text": "1 report of the broker could not be booked: the price is not a number",
            "items": [
                {
                    "kind": "parked_report",
                    "text": "1 report of the broker could not be booked: the price is not a number",
                    "action": "Settle each: retry it when its reason is gone, or discard it.",
                    "ids": ["fill:0000e0d5.bbbb0001.01.01"],
                    "count": 1,
                }
            ],
        },
    )
    Break.objects.create(
        account=account,
        kind="cash",
        currency="USD",
        ib_quantity=Decimal("858490.88"),
        ledger_quantity=Decimal("857240.88"),
        opened_at=now() - timedelta(minutes=2),
        cause={
            "text": "No execution and no proposal explains 1250 USD.",
            "items": [
                {
                    "kind": "unexplained",
                    "text": "No execution and no proposal explains 1250 USD.",
                    "action": "Look in the broker's statement for a deposit.",
                    "ids": [],
                    "count": 0,
                }
            ],
        },
    )
    ParkedReport.objects.create(
        key="fill:0000e0d5.bbbb0001.01.01",
        account_id=ACCOUNT,
        con_id=AAPL,
        payload={"exec_id": "0000e0d5.bbbb0001.01.01", "price": "NaN"},
        code="bad_execution",
        reason="the price of execution 0000e0d5.bbbb0001.01.01 is not a number",
        parked_at=now(),
        last_at=now(),
    )


def alerts() -> None:
    """Write a critical and a warning alert."""
    Alert.objects.create(
        key="break:265598",
        severity="critical",
        title="AAPL: IB holds 425, the books 400",
        text="Locked for trading until both agree.",
        opened_at=now(),
        last_at=now(),
        times=4,
    )
    Alert.objects.create(
        key="fx:EUR", severity="warning", title="The rate of EUR is old", opened_at=now(), last_at=now()
    )


def flex(account: Account) -> None:
    """Write a statement with one open finding."""
    statement = FlexStatement.objects.create(
        account=account,
        sha256="a" * 64,
        query_name="Daily",
        from_date=now().date(),
        to_date=now().date(),
        imported_at=now(),
        actor="operator",
        counts={"read": 42, "matched": 40, "booked": 1, "differing": 1},
    )
    FlexFinding.objects.create(
        statement=statement,
        kind="missing_execution",
        key="0000e0d5.cccc0001.01.01",
        text="IB's statement has a purchase of 10 MSFT at 417.30 that the books do not have.",
    )
