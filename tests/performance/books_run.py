"""Parts of the ledger's benchmark that work in this process, each with its floor beside it.

Needs Django set up on a throw-away database (``bench_books`` does that). Units: fills per second, seconds.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from strategies.events import CommissionSnapshot, ContractSnapshot, FillSnapshot

ACCOUNT = "DU1000001"
SPY = 756733
START = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)
OWNERS = 98
CONTRACTS = 500
BATCH = 200
OPENING_CASH = Decimal(1_000_000)  # the paper gateway's


def contract(number: int) -> ContractSnapshot:
    """Return one of many stocks; number 0 is SPY, which the paper gateway lists."""
    con_id, symbol = (SPY, "SPY") if not number else (10_000_000 + number, f"B{number}")
    return ContractSnapshot(con_id, symbol, "STK", "SMART", "USD")


def fills(count: int, *, seed: int = 1, first: int = 0, contracts: int = 20, owners: int = 5) -> Iterator[FillSnapshot]:
    """Yield fills of random size and price over owners and contracts, their fees in a second report."""
    chance = random.Random(seed)
    described = [contract(number) for number in range(contracts)]
    for number in range(first, first + count):
        quantity, price = Decimal(chance.randint(1, 200)), Decimal(chance.randint(1_000, 50_000)) / 100
        yield fill(number, described[number % contracts], f"BENCH{number % owners}", quantity, price, chance.random())


def fill(
    number: int, of: ContractSnapshot, owner: str, quantity: Decimal, price: Decimal, chance: float
) -> FillSnapshot:
    """Return one execution."""
    return FillSnapshot(
        exec_id=f"0000e0d5.{number:08x}.01.01",
        account=ACCOUNT,
        contract=of,
        side="BOT" if chance < 0.5 else "SLD",
        quantity=quantity,
        price=price,
        executed_at=START + timedelta(milliseconds=number),
        perm_id=1_000_000 + number // 100,
        client_id=1,
        order_id=number // 100,
        order_ref=f"{owner}/{number // 100:026d}",
        cum_quantity=quantity,
        average_price=price,
        exchange="ARCA",
    )


def pure_fold(count: int) -> tuple[float, float]:
    """Return fills/s of the pure fold, fee included, and of the bare additions that no ledger can do without."""
    from portfolio.ledger.positions import FLAT, PositionState, apply_commission, apply_fill

    made = [(f"{one.order_ref[:6]}", one.contract.con_id, one) for one in fills(count)]
    signed = [
        (owner, con_id, one.quantity if one.side == "BOT" else -one.quantity, one.price) for owner, con_id, one in made
    ]
    fee = Decimal("1.05")
    states: dict[tuple[str, int], PositionState] = {}
    start = time.perf_counter()
    for owner, con_id, quantity, price in signed:
        state = apply_fill(states.get((owner, con_id), FLAT), quantity, price).position
        states[owner, con_id] = apply_commission(state, fee)
    ours = count / (time.perf_counter() - start)
    held: dict[tuple[str, int], Decimal] = {}
    cash: dict[str, Decimal] = {}
    zero = Decimal(0)
    start = time.perf_counter()
    for owner, con_id, quantity, price in signed:
        held[owner, con_id] = held.get((owner, con_id), zero) + quantity
        cash[owner] = cash.get(owner, zero) - quantity * price - fee
    floor = count / (time.perf_counter() - start)
    return ours, floor


def sqlite_fold(count: int, folder: Path) -> tuple[float, float]:
    """Return fills/s into the real tables in batches of ``BATCH``, fees included, and of bare inserts of such rows."""
    from portfolio import services as books

    books.ensure_account(ACCOUNT, "USD")
    made = list(fills(count, seed=2, first=10_000_000))
    batches = [made[at : at + BATCH] for at in range(0, count, BATCH)]
    now = datetime.now(UTC)
    start = time.perf_counter()
    for batch in batches:
        fees = [CommissionSnapshot(one.exec_id, Decimal("1.05"), "USD") for one in batch]
        books.fold_batch(ACCOUNT, [*batch, *fees], lambda one: one.order_ref.partition("/")[0], now)
    return count / (time.perf_counter() - start), _bare_inserts(batches, folder)


def _bare_inserts(batches: Sequence[Sequence[FillSnapshot]], folder: Path) -> float:
    """Insert one execution of twenty columns and two movements of eighteen for each fill; WAL, synchronous FULL."""
    import mats_site  # noqa: F401 - replaces sqlite3 as the product does

    database = sqlite3.connect(folder / "floor_books.sqlite3", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    for name, columns in (("execution", 20), ("movement", 18)):
        rest = ", ".join(f"c{number} TEXT" for number in range(columns - 1))
        database.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, key TEXT UNIQUE, {rest})")
    marks = {n: ", ".join("?" * n) for n in (20, 18)}
    start = time.perf_counter()
    for batch in batches:
        executions = [(one.exec_id, *([str(one.price)] * 19)) for one in batch]
        movements = [(f"{kind}:{one.exec_id}", *([str(one.price)] * 17)) for one in batch for kind in ("fill", "fee")]
        database.execute("BEGIN IMMEDIATE")
        database.executemany(f"INSERT INTO execution VALUES (NULL, {marks[20]})", executions)  # noqa: S608 - fixed text
        database.executemany(f"INSERT INTO movement VALUES (NULL, {marks[18]})", movements)  # noqa: S608
        database.execute("COMMIT")
    spent = time.perf_counter() - start
    database.close()
    return sum(map(len, batches)) / spent


def reconcile(database: str) -> tuple[float, float]:
    """Return seconds to compare all positions with the broker's answer, and to read and sum the bare rows."""
    from portfolio import services as books
    from portfolio.instruments import ensure_instruments
    from portfolio.models import Position

    described = [contract(number) for number in range(1, CONTRACTS + 1)]
    ensure_instruments(described)
    now = datetime.now(UTC)
    Position.objects.bulk_create(
        [
            Position(
                account_id=ACCOUNT, owner=f"S{owner}", instrument_id=one.con_id, quantity=Decimal(owner), updated_at=now
            )
            for owner in range(1, OWNERS + 1)
            for one in described
        ],
        batch_size=5_000,
    )
    answer = books.ledger_quantities(ACCOUNT)
    ours = best_of(3, lambda: books.compare_positions(ACCOUNT, answer, now))

    def bare() -> None:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        held: dict[int, Decimal] = {}
        for con_id, quantity in connection.execute("select instrument_id, quantity from portfolio_position"):
            held[con_id] = held.get(con_id, Decimal(0)) + Decimal(quantity)
        connection.close()
        if any(held.get(con_id, 0) != quantity for con_id, quantity in answer.items()):
            raise RuntimeError("the floor does not agree with the ledger")

    return ours, best_of(3, bare)


def best_of(times: int, work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of several runs."""
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return min(spent)


def book_past(count: int) -> float:
    """Book ``count`` executions of an earlier day that leave positions and cash as they were; return the seconds."""
    from portfolio import services as books

    now = datetime.now(UTC)
    books.ensure_account(ACCOUNT, "USD")
    books.open_account(ACCOUNT, {"USD": OPENING_CASH}, [], [], now)
    described, price = contract(0), Decimal("321.5")
    start = time.perf_counter()
    for first in range(0, count, 2_000):
        batch = [
            fill(20_000_000 + number, described, "BENCH", Decimal(10), price, number % 2)
            for number in range(first, min(first + 2_000, count))
        ]
        fees = [CommissionSnapshot(one.exec_id, Decimal(0), "USD") for one in batch]
        books.fold_batch(ACCOUNT, [*batch, *fees], lambda one: "BENCH", now)
    return time.perf_counter() - start


def main() -> None:
    """Book a past into the home that the environment names."""
    import django

    django.setup()
    print(f"{book_past(int(sys.argv[1])):.1f}")


if __name__ == "__main__":
    main()
