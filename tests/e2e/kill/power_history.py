"""A history of the books in numbered batches, the same at every run; a process of its own, told what to do by argument.

``record FOLDER``: play it on an open database; after each commit note how long the log is and what the books say; copy
database and log as a power cut would leave them, halfway (before a checkpoint) and at the end.
``finish``: for each ``{"path", "done"}`` on stdin prove the database, play what is missing (executions that are known
come again, as from the broker), prove it again, and tell what the books say then.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import django

if __name__ == "__main__":
    django.setup()

from django.conf import settings
from django.db import connection, connections, transaction

from portfolio import adjustments, assignments, hourly, parking
from portfolio import services as books
from portfolio.facts import AccountRow, BrokerPosition
from portfolio.models import Adjustment, CashBalance, Execution
from portfolio.verification import verify_all
from strategies.exceptions import LedgerError
from strategies.models import Strategy
from tests.e2e.kill.wal import frames, state_at
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

BATCHES = int(os.environ.get("MATS_POWER_BATCHES", "10"))
FILLS = 6
STOCKS = [contract(), contract(756733, "SPY")]
BY: dict[str, Any] = {"actor": "proof", "source": "cli"}


def fills_of(batch: int) -> list[Any]:
    """Return executions and fees of a batch: early fees, late ones, and a correction of the batch before."""
    first = batch * FILLS + 1
    moment = NOW + timedelta(hours=batch, minutes=-20)
    made: list[Any] = []
    for number in range(first, first + FILLS):
        quantity, price = (number % 7 - 3) or 5, f"{50 + number % 11}.{number % 100:02d}"
        owner = ("ALPHA", "BETA", "")[number % 3]
        execution = fill(number, quantity, price, owner=owner, of=STOCKS[number % 2], at=moment)
        pair = [execution, fee(number, f"1.{number % 90:02d}")]
        made += pair if number % 2 else pair[::-1]
    if batch > 1:
        number = first - FILLS
        owner = ("ALPHA", "BETA", "")[number % 3]
        made.append(fill(number, 4, "51.5", revision=2, owner=owner, of=STOCKS[number % 2], at=moment))
        made.append(fee(number, "0.75", revision=2))
    return made


def play(batch: int) -> None:
    """Write one batch: everything in it or nothing."""
    now = NOW + timedelta(hours=batch)
    with transaction.atomic():
        if batch == 0:
            _open(now)
            return
        books.fold_batch(ACCOUNT, fills_of(batch), owner_of, now)
        _adjust(batch, now)
        if batch % 3 == 1:
            error = LedgerError("A price of STK is above zero.", code="bad_price")
            parking.park(fill(9000 + batch, 5, 0, at=now), error, now)
        if batch % 2:
            hourly.take_hourly_snapshot(ACCOUNT, hourly.hour_of(now), now)
        _reconcile(batch, now)


def _open(now: Any) -> None:
    Strategy.objects.bulk_create(  # in bulk nobody is told: that would be a commit of its own
        [Strategy(symbol=symbol, filename="none.py", active=True, target_weight="0.3") for symbol in ("ALPHA", "BETA")]
    )
    books.ensure_account(ACCOUNT, "USD")
    rows = [AccountRow("NetLiquidation", "1000000", "USD"), AccountRow("ExchangeRate", "1", "USD")]
    books.record_account_values(ACCOUNT, rows, now)
    books.open_account(ACCOUNT, {"USD": Decimal(1_000_000)}, [], [], now)
    books.ensure_instruments(STOCKS)
    books.record_marks({stock.con_id: Decimal("52.5") for stock in STOCKS}, now)


def _adjust(batch: int, now: Any) -> None:
    deposit = {"owner": "ALPHA", "currency": "USD", "amount": f"{batch}.25"}
    adjustments.book_adjustment(ACCOUNT, "deposit", deposit, key=f"deposit-{batch}", now=now, **BY)
    if batch % 2:
        dividend = {"con_id": STOCKS[0].con_id, "currency": "USD", "amount": "7.77"}
        adjustments.book_adjustment(ACCOUNT, "dividend", dividend, key=f"dividend-{batch}", now=now, **BY)
    if batch % 3 == 2:
        earlier = Adjustment.objects.get(key=f"deposit-{batch - 1}")
        adjustments.undo_adjustment(earlier.pk, reason="typed wrongly", now=now, **BY)
    if batch % 4 == 3:
        found = Execution.objects.filter(owner="Discretionary", superseded=False).order_by("-id").first()
        assert found is not None
        assignments.assign_execution(
            ACCOUNT, found.exec_id, "BETA", reason="hers", key=f"assign-{batch}", now=now, **BY
        )


def _reconcile(batch: int, now: Any) -> None:
    """Every fifth batch finds one share too many, and the next one finds it gone."""
    quantities = books.ledger_quantities(ACCOUNT)
    if batch % 5 == 3:
        quantities[STOCKS[0].con_id] += 1
    held = [BrokerPosition(one, quantities.get(one.con_id, Decimal(0)), Decimal(50)) for one in STOCKS]
    books.store_holdings(ACCOUNT, held, now)
    books.compare_positions(ACCOUNT, quantities, now)
    cash = sum(CashBalance.objects.filter(account_id=ACCOUNT).values_list("amount", flat=True), Decimal(0))
    books.compare_cash(ACCOUNT, {"USD": cash}, now)
    books.note_reconciled(ACCOUNT, now)


def pragma(text: str) -> int:
    """Run a PRAGMA on the writer's connection; return the first figure of its answer."""
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {text}")
        (first, *_), *_ = cursor.fetchall()
    return int(first)


def record(folder: Path) -> None:
    """Play everything; leave copies and what was acknowledged, then end without closing anything."""
    database = Path(settings.DATABASES["default"]["NAME"])
    log = Path(f"{database}-wal")
    synchronous = pragma("synchronous")
    pragma("wal_autocheckpoint=0")
    pragma("wal_checkpoint(TRUNCATE)")
    acknowledged: dict[str, list[dict[str, Any]]] = {}
    begun = state_at(database)
    for part, batches in (("first", range(BATCHES // 2)), ("second", range(BATCHES // 2, BATCHES))):
        said = acknowledged[part] = [{"done": batches[0], "log": 0, "state": begun}]
        for batch in batches:
            play(batch)
            begun = state_at(database)
            said.append({"done": batch + 1, "log": frames(log.read_bytes())[-1].end, "state": begun})
        shutil.copy(database, folder / f"{part}.sqlite3")
        shutil.copy(log, folder / f"{part}.wal")
        pragma("wal_checkpoint(RESTART)")
    (folder / "acknowledged.json").write_text(json.dumps({"synchronous": synchronous, **acknowledged}))
    os._exit(0)


def finish() -> None:
    """Prove and complete each database of the list on stdin."""
    told = []
    for one in json.load(sys.stdin):
        connection.close()
        connections.databases["default"]["NAME"] = connection.settings_dict["NAME"] = one["path"]
        before = _findings()
        known = [item for batch in range(1, one["done"]) for item in fills_of(batch)]
        if known:
            books.fold_batch(ACCOUNT, known, owner_of, NOW + timedelta(hours=one["done"]))
        for batch in range(one["done"], BATCHES):
            play(batch)
        after = _findings()
        told.append({"done": one["done"], "before": before, "after": after, "state": state_at(Path(one["path"]))})
    sys.stdout.write(json.dumps(told))


def _findings() -> list[str]:
    """Return what the proof of the journal says, but for the break of a position that the history is about."""
    report = verify_all(arctic=False)
    return [text for check in report.checks for text in check.findings if "an open break names it" not in text]


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record(Path(sys.argv[2]))
    else:
        finish()
