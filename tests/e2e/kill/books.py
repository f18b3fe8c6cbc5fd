"""What the books must say: after every kill by themselves, at the end against the gateway's truth.

Reads the database with plain SQL and adds up with Decimal: nothing here shares code with what it checks.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

from tests.e2e.kill.churn import Churn, family
from tests.e2e.kill.engines import Engines
from tests.support.gateway_process import Truth


def number(value: Any) -> Decimal:
    """Return a column of money or quantity, nothing as zero."""
    return Decimal(str(value or 0))


def check_whole(engines: Engines) -> None:
    """No transaction is in the books by half: balances are the sums of their movements, each deed has its own."""
    quantities: dict[tuple[str, int], Decimal] = defaultdict(Decimal)
    cash: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    moved: set[int] = set()
    adjusted: set[int] = set()
    rows = engines.query(
        "select owner, instrument_id, quantity, cash, currency, execution_id, adjustment_id from portfolio_movement"
    )
    for owner, con_id, quantity, amount, currency, execution, adjustment in rows:
        if con_id is not None:
            quantities[owner, con_id] += number(quantity)
        cash[owner, currency] += number(amount)
        moved.add(execution)
        adjusted.add(adjustment)
    held = engines.query("select owner, instrument_id, quantity from portfolio_position")
    assert {(o, c): q for (o, c), q in quantities.items() if q} == {(o, c): number(q) for o, c, q in held if number(q)}
    balances = engines.query("select owner, currency, amount from portfolio_cashbalance")
    assert {key: q for key, q in cash.items() if q} == {(o, c): number(q) for o, c, q in balances if number(q)}
    opened = engines.query("select opened_at from portfolio_account")
    executions = {pk for (pk,) in engines.query("select id from portfolio_execution where superseded = 0")}
    if opened and opened[0][0]:
        assert executions <= moved, "an execution has no movement"
    booked = engines.query("select id, key, created_at from portfolio_adjustment where state = 'booked'")
    assert {pk for pk, _, _ in booked} <= adjusted, "an adjustment has no movement"
    audited = {subject for (subject,) in engines.query("select subject from strategies_auditentry")}
    assert {key.removeprefix("undo:") for _, key, _ in booked} <= audited, "an adjustment has no audit entry"


def compare(engines: Engines, truth: Truth, churn: Churn) -> None:
    """Every book of the ledger against the gateway."""
    _executions(engines, truth, churn)
    _positions(engines, truth, churn)
    _cash(engines, truth)
    _deeds(engines, churn)
    assert max(truth.received[ref] for ref in truth.received if ref) == 1, "an order was sent twice"
    assert engines.query("select count(*) from portfolio_break where state = 'open'") == [(0,)]
    hours = engines.query("select count(*), count(distinct account_id || owner || hour) from portfolio_hourlysnapshot")
    assert hours[0][0] == hours[0][1] > 0, "an hour was kept twice, or none"


def _executions(engines: Engines, truth: Truth, churn: Churn) -> None:
    recorded = {
        row[0]: (row[1], number(row[2]), number(row[3]), row[4])
        for row in engines.query("select exec_id, instrument_id, quantity, price, superseded from portfolio_execution")
    }
    assert recorded.keys() == truth.executions.keys() - churn.bad_ids
    latest = {family(exec_id): exec_id for exec_id in sorted(truth.executions)}
    for exec_id, (con_id, quantity, price, superseded) in recorded.items():
        fact = truth.executions[exec_id]
        sign = 1 if fact["side"] == "BOT" else -1
        assert (con_id, quantity, price) == (fact["con_id"], sign * fact["quantity"], fact["price"])
        assert bool(superseded) == (latest[family(exec_id)] != exec_id)
    parked = engines.query("select key, state from portfolio_parkedreport")
    assert sorted(parked) == sorted((f"fill:{exec_id}", "waiting") for exec_id in churn.bad_ids)


def _positions(engines: Engines, truth: Truth, churn: Churn) -> None:
    held: dict[tuple[str, int], Decimal] = {
        (owner, con_id): number(quantity)
        for owner, con_id, quantity in engines.query("select owner, instrument_id, quantity from portfolio_position")
        if number(quantity)
    }
    totals: dict[int, Decimal] = defaultdict(Decimal)
    for (_, con_id), quantity in held.items():
        totals[con_id] += quantity
    assert {con_id: quantity for con_id, quantity in totals.items() if quantity} == truth.positions
    given = {
        family(json.loads(details)["exec_id"])
        for (details,) in engines.query(
            "select details from portfolio_adjustment where kind = 'reassignment' and state = 'booked'"
        )
    }
    expected: dict[tuple[str, int], Decimal] = defaultdict(Decimal)
    for name, exec_id in {family(exec_id): exec_id for exec_id in sorted(truth.executions)}.items():
        fact = truth.executions[exec_id]
        owner = "CHURN" if fact["order_ref"] or name in given else "Discretionary"
        expected[owner, fact["con_id"]] += fact["quantity"] * (1 if fact["side"] == "BOT" else -1)
    assert {key: quantity for key, quantity in expected.items() if quantity} == held
    assert len(given) == sum(1 for w in churn.wishes.values() if w.kind == "assign_execution" and w.state == "done")


def _cash(engines: Engines, truth: Truth) -> None:
    cash: dict[str, Decimal] = defaultdict(Decimal)
    for currency, amount in engines.query("select currency, amount from portfolio_cashbalance"):
        cash[currency] += number(amount)
    assert {currency: round(amount, 2) for currency, amount in cash.items()} == {
        currency: round(amount, 2) for currency, amount in truth.cash.items()
    }


def _deeds(engines: Engines, churn: Churn) -> None:
    """Each command's deed is booked once, however often it was asked for."""
    moved: dict[str, Decimal] = defaultdict(Decimal)
    for key, amount in engines.query(
        "select a.key, m.cash from portfolio_adjustment a join portfolio_movement m on m.adjustment_id = a.id"
    ):
        moved[key] += number(amount)
    states = dict(engines.query("select key, state from portfolio_adjustment"))
    undone = {w.args["adjustment"] for w in churn.wishes.values() if w.kind == "undo_adjustment" and w.state == "done"}
    for key, wish in churn.wishes.items():
        if wish.kind != "book_adjustment":
            continue
        details = wish.args["details"]
        amount = Decimal(0) if "from" in details else Decimal(details["amount"])
        assert moved[f"op:{key}"] == amount, key
        is_undone = wish.result["adjustment"] in undone
        assert states[f"op:{key}"] == ("undone" if is_undone else "booked")
        assert moved.get(f"undo:op:{key}", Decimal(0)) == (-amount if is_undone else 0)
    audited = Counter(
        engines.query("select action, subject from strategies_auditentry where action like 'adjustment.%'")
    )
    assert max(audited.values(), default=0) <= 1, "a deed has two audit entries"
