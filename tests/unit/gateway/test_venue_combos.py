"""Combinations at the paper venue: one order, an execution of its own and one for each leg, books moved by the legs."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.gateway.venue_desk import (
    AAPL_ID,
    EURUSD_ID,
    SECOND,
    SPY_ID,
    START,
    changed,
    codes,
    commissions,
    only,
    order,
    run,
    status_of,
    statuses,
    venue,
)
from trading.gateway.exchange import Exchange
from trading.gateway.model import (
    Contract,
    Executed,
    ExecutionFilter,
    OrderRequest,
    OrderWhatIf,
    PositionChanged,
)

D = Decimal
PAIR = Contract(symbol="SPY", sec_type="BAG", exchange="SMART", currency="USD")


def legs(*rows: tuple[int, int, str]) -> str:
    """The legs as placeOrder carries them: conId, ratio, side."""
    fields = [str(len(rows))]
    for con_id, ratio, side in rows:
        fields += [str(con_id), str(ratio), side, "SMART", "0", "0", "", "-1"]
    return "\0".join(fields)


PAIR_LEGS = legs((SPY_ID, 1, "BUY"), (AAPL_ID, 2, "SELL"))


def combo(order_id: int, action: str = "BUY", quantity: int = 10, **fields: Any) -> OrderRequest:
    """One SPY against two AAPL, at the market unless told otherwise."""
    return order(order_id, action, quantity, contract=PAIR, **{"comboLegs": PAIR_LEGS, **fields})


@pytest.fixture
def exchange() -> Exchange:
    return venue()


def natural(exchange: Exchange, action: str = "BUY") -> Decimal:
    """What the combination costs at its legs' quotes."""
    spy, aapl = exchange.quote(SPY_ID, START), exchange.quote(AAPL_ID, START)
    sides = (spy.ask, aapl.bid) if action == "BUY" else (spy.bid, aapl.ask)
    assert None not in sides
    return (sides[0] or D(0)) - 2 * (sides[1] or D(0))


@pytest.mark.parametrize("action", ["BUY", "SELL"])
def test_it_executes_as_a_whole_and_by_its_legs(exchange: Exchange, action: str) -> None:
    events = exchange.place(combo(1, action), START)
    whole, spy, aapl = (event.execution for event in only(Executed, events))
    first, second = ("BOT", "SLD") if action == "BUY" else ("SLD", "BOT")
    assert [(e.contract.sec_type, e.side, e.quantity) for e in (whole, spy, aapl)] == [
        ("BAG", first, D(10)),
        ("STK", first, D(10)),
        ("STK", second, D(20)),
    ]
    assert whole.price == spy.price - 2 * aapl.price == natural(exchange, action)
    assert [e.exec_id.count(".") for e in (whole, spy, aapl)] == [3, 4, 4]
    assert len({e.exec_id.rsplit(".", 1)[0] for e in (whole, spy, aapl)}) == 3
    assert {e.perm_id for e in (whole, spy, aapl)} == {whole.perm_id}
    assert statuses(events) == ["PreSubmitted", "Filled"]
    assert [e.con_id for e in only(PositionChanged, events)] == [SPY_ID, AAPL_ID]


def test_only_the_legs_move_positions_cash_and_commissions(exchange: Exchange) -> None:
    exchange.place(combo(1), START)
    held = {row.contract.con_id: row.quantity for row in exchange.positions(START)}
    assert held == {SPY_ID: 10, AAPL_ID: -20}
    told = commissions(exchange.advance(START + SECOND))
    assert [(c.commission.exec_id.count("."), c.commission.amount) for c in told] == [(4, D(1)), (4, D(1))]
    cash = next(D(r.value) for r in exchange.account_values(START + SECOND) if r.key == "CashBalance")
    assert cash == 1_000_000 - 10 * natural(venue()) - 2
    reports = [commission for _, commission in exchange.executions(ExecutionFilter())]
    assert [commission is None for commission in reports] == [True, False, False]


def test_a_limit_may_be_below_zero_and_is_kept(exchange: Exchange) -> None:
    price = natural(exchange)
    assert exchange.place(combo(1, order_type="LMT", limit_price=price - 5), START)[0]
    events = run(exchange, START, START + 600 * SECOND)
    assert all(e.execution.price <= price - 5 for e in only(Executed, events) if e.execution.contract.sec_type == "BAG")
    upside_down = legs((SPY_ID, 1, "SELL"), (AAPL_ID, 2, "BUY"))
    assert codes(exchange.place(combo(2, order_type="LMT", limit_price="-900.00", comboLegs=upside_down), START)) == []
    assert status_of(exchange, 2) == "Submitted"


def test_a_large_combination_fills_in_pieces_whose_legs_add_up(exchange: Exchange) -> None:
    events = exchange.place(combo(1, quantity=1500), START)
    events += run(exchange, START, START + 60 * SECOND)
    executions = [e.execution for e in only(Executed, events)]
    wholes = [e for e in executions if e.contract.sec_type == "BAG"]
    assert len(wholes) > 1
    assert sum(e.quantity for e in wholes) == 1500
    spy = [e for e in executions if e.contract.con_id == SPY_ID]
    assert [e.cum_quantity for e in spy] == [e.cum_quantity for e in wholes]
    assert spy[-1].average_price == sum(e.quantity * e.price for e in spy) / 1500
    amounts = [c.commission.amount for c in commissions(events)]
    assert sum(amounts) == D("7.5") + 15  # half a cent a share, by leg


def test_margin_and_what_if_count_every_leg(exchange: Exchange) -> None:
    (answer,) = only(OrderWhatIf, exchange.place(combo(1, what_if=True), START))
    spy, aapl = (exchange.quote(con_id, START).last for con_id in (SPY_ID, AAPL_ID))
    assert spy is not None
    assert aapl is not None
    assert answer.what_if.init_margin_change == (10 * spy + 20 * aapl) / 2
    assert answer.what_if.commission == 2
    assert exchange.executions(ExecutionFilter()) == []
    events = exchange.place(combo(1, quantity=5000), START)
    assert (codes(events), statuses(events)) == ([201], ["Inactive"])


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"comboLegs": ""}, 321),
        ({"comboLegs": legs((SPY_ID, 1, "BUY"))}, 321),
        ({"comboLegs": legs((SPY_ID, 1, "BUY"), (SPY_ID, 1, "SELL"))}, 321),
        ({"comboLegs": legs((SPY_ID, 1, "BUY"), (5, 1, "SELL"))}, 200),
        ({"comboLegs": legs((SPY_ID, 0, "BUY"), (AAPL_ID, 1, "SELL"))}, 321),
        ({"comboLegs": legs((SPY_ID, 1, "SSHORT"), (AAPL_ID, 1, "SELL"))}, 321),
        ({"comboLegs": legs((SPY_ID, 1, "BUY"), (EURUSD_ID, 1, "SELL"))}, 200),
        ({"order_type": "STP", "aux_price": "1.00"}, 387),
        ({"order_type": "LMT", "limit_price": "1.001"}, 110),
        ({"orderComboLegs": "2\x001.0\x002.0"}, 10340),
        ({"contract": Contract(symbol="SPY", sec_type="BAG", currency="USD")}, 321),
    ],
)
def test_what_is_no_combination_is_refused(exchange: Exchange, fields: dict[str, Any], code: int) -> None:
    request = combo(1, **{name: value for name, value in fields.items() if name != "contract"})
    request = changed(request, contract=fields.get("contract", PAIR))
    assert codes(exchange.place(request, START)) == [code]
    assert exchange.open_orders() == []


def test_a_modification_may_not_change_the_legs(exchange: Exchange) -> None:
    request = combo(1, order_type="LMT", limit_price="-900.00")
    exchange.place(request, START)
    other = {**request.echo, "comboLegs": legs((SPY_ID, 1, "BUY"), (AAPL_ID, 1, "SELL"))}
    assert codes(exchange.place(changed(request, echo=other), START)) == [105]
    assert codes(exchange.place(changed(request, limit_price=D("-800.00")), START)) == []


def test_a_correction_of_a_leg_moves_that_leg_only(exchange: Exchange) -> None:
    events = exchange.place(combo(1), START)
    whole, spy, _ = (event.execution for event in only(Executed, events))
    (fixed,) = only(Executed, exchange.correct(spy.exec_id, quantity=D(9)))
    assert fixed.execution.exec_id == spy.exec_id[:-2] + "02"
    assert (fixed.execution.quantity, fixed.execution.contract.con_id) == (D(9), SPY_ID)
    assert {row.contract.con_id: row.quantity for row in exchange.positions(START)} == {SPY_ID: 9, AAPL_ID: -20}
    again = exchange.correct(whole.exec_id, price=whole.price + 1)
    assert only(PositionChanged, again) == []
    assert len(only(Executed, again)) == 1


def test_a_restart_keeps_combinations_and_their_legs(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    first = venue(state_file=path)
    first.place(combo(1), START)
    first.place(combo(2, order_type="LMT", limit_price="-900.00", tif="GTC"), START)
    wanted = (first.executions(ExecutionFilter()), first.open_orders(), first.positions(START))
    for saved in (False, True):
        if saved:
            first.save()
        again = venue_from(path)
        assert (again.executions(ExecutionFilter()), again.open_orders(), again.positions(START)) == wanted
        again.close()
        first = again
    assert first.open_orders()[0].request.echo["comboLegs"] == PAIR_LEGS


def venue_from(path: Path) -> Exchange:
    """The venue of a state file, at the moment of the tests."""
    return venue(state_file=path)
