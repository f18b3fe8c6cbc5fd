"""Everything the paper exchange must not forget, and the records that rebuild it.

Owns: orders, executions, ids, order references, account; every change is made by applying a record.
Leaves: deciding (``exchange_orders``), storing (``persistence``).
Rule: live and restored state go through the same ``_apply_*`` methods, so a restart cannot differ from never stopping.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from strategies.exceptions import ConfigError
from trading.gateway.account import Account, Holding, Trade
from trading.gateway.exchange_records import (
    DONE,
    ExecutionEntry,
    LegTrade,
    OrderRecord,
    decode_order,
    encode_order,
    encode_past,
    execution_exchange,
)
from trading.gateway.hours import from_micros, to_micros
from trading.gateway.instruments import InstrumentTable
from trading.gateway.market import Anchor
from trading.gateway.model import Commission, Contract, Execution
from trading.gateway.persistence import Record

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class _Deal:
    """What an execution adds to what its order says."""

    exec_id: str
    quantity: Decimal
    price: Decimal
    fee: Decimal | None
    realized: Decimal | None
    time_us: int
    due_us: int
    cum: Decimal  # of the order, with this execution
    average: Decimal
    leg: tuple[Contract, bool] | None = None  # contract and whether it was bought, where not those of the order


@dataclass
class VenueState:
    """All orders, executions, ids and balances."""

    table: InstrumentTable
    account: Account
    anchor: Anchor | None = None
    born_s: int = 0  # seconds of the epoch at the first start: keeps ids of different lives apart
    day: str = ""  # ISO date in New York
    orders: dict[tuple[int, int], OrderRecord] = field(default_factory=dict)
    by_perm: dict[int, OrderRecord] = field(default_factory=dict)
    working: dict[int, OrderRecord] = field(default_factory=dict)
    executions: list[ExecutionEntry] = field(default_factory=list)
    unreported: dict[str, ExecutionEntry] = field(default_factory=dict)
    next_ids: dict[int, int] = field(default_factory=dict)
    order_refs: Counter[str] = field(default_factory=Counter)
    perm_ids: int = 0
    exec_ids: int = 0
    manual_ids: int = 0  # how many negative order ids manual orders have got
    unsaved: list[Record] = field(default_factory=list)

    def restore(self, records: Iterable[Record]) -> None:
        """Apply stored records."""
        for record in records:
            self._apply(record)

    def _do(self, *record: Any) -> None:
        self._apply(list(record))
        self.unsaved.append(list(record))

    def _apply(self, record: Record) -> None:
        _APPLY[record[0]](self, *record[1:])

    # changes

    def begin(self, now: datetime) -> None:
        """Record the first start and the cash put in."""
        self._do("born", int(now.timestamp()), self.account.account_id, self.account.currency)
        self._do("cash", {currency: str(amount) for currency, amount in self.account.cash.items()})

    def set_anchor(self, anchor: Anchor) -> None:
        """Record where clock and path are tied."""
        self._do("anchor", anchor.origin_us, anchor.minutes, anchor.speed)

    def use_id(self, client_id: int, order_id: int) -> None:
        """Record that a client used an order id."""
        self._do("id", client_id, order_id + 1)

    def count_ref(self, order_ref: str) -> None:
        """Count an order reference."""
        self._do("ref", order_ref, 1)

    def next_perm_id(self) -> int:
        """Unique in the account's life: it begins at the seconds of the epoch and fits 31 bits."""
        return (self.born_s % 2_000_000_000) + self.perm_ids + 1

    def put_order(self, order: OrderRecord) -> None:
        """Store a new or changed order whole."""
        self._do("order", encode_order(order))

    def next_manual_id(self) -> int:
        """Take the next order id for a manual order: −1, −2 and so on, never again."""
        self._do("manual", self.manual_ids + 1)
        return -self.manual_ids

    def trail(self, order: OrderRecord, stop: Decimal, now: datetime) -> None:
        """Move a trailing stop by what the market did until now."""
        self._do("trail", order.perm_id, str(stop), to_micros(now))

    def set_status(self, order: OrderRecord, status: str, now: datetime, reason: str = "") -> None:
        """Move an order to a status."""
        done = to_micros(now) if status in DONE else None
        self._do("status", order.perm_id, status, order.triggered, done, reason)

    def add_execution(
        self, order: OrderRecord, quantity: Decimal, price: Decimal, commission: Decimal, now: datetime, due: datetime
    ) -> ExecutionEntry:
        """Book an execution of an order into order and account."""
        exec_id = f"{self.born_s & 0xFFFFFFFF:08x}.{self.exec_ids + 1:08x}.01.01"
        record: Record = [
            "exec", exec_id, order.perm_id, str(quantity), str(price), str(commission), to_micros(now), to_micros(due)
        ]  # fmt: skip
        self._apply(record)
        self.unsaved.append(record)
        return self.executions[-1]

    def add_combo(
        self, order: OrderRecord, quantity: Decimal, price: Decimal, legs: list[LegTrade], now: datetime, due: datetime
    ) -> list[ExecutionEntry]:
        """Book an execution of a combination: itself into the order, its legs into the account."""
        exec_id = f"{self.born_s & 0xFFFFFFFF:08x}.{self.exec_ids + 1:08x}.01.01"
        rows = [
            [leg.contract.con_id, leg.contract.exchange, str(leg.quantity), str(leg.price), str(leg.fee)]
            for leg in legs
        ]
        self._do(
            "combo", exec_id, order.perm_id, str(quantity), str(price), to_micros(now), to_micros(due), rows
        )  # fmt: skip
        return self.executions[-len(legs) - 1 :]

    def leg_filled(self, perm_id: int, con_id: int) -> tuple[Decimal, Decimal]:
        """What an order has traded in one leg: quantity, average price."""
        for entry in reversed(self.executions):
            execution = entry.execution
            if execution.perm_id == perm_id and execution.contract.con_id == con_id:
                return execution.cum_quantity, execution.average_price
        return ZERO, ZERO

    def book_cash(self, currency: str, amount: Decimal) -> None:
        """Book cash that no execution explains."""
        self._do("flow", currency, str(amount))

    def move_holding(self, contract: Contract, quantity: Decimal) -> None:
        """Change a position without an execution, as a corporate action does; its cost stays in sum."""
        self._do("moved", asdict(contract), str(quantity))

    def settle(self, con_id: int, price: Decimal) -> None:
        """End an expired position at its settlement price."""
        self._do("settled", con_id, str(price))

    def exercise(self, con_id: int, quantity: Decimal, underlying: Contract) -> None:
        """Turn contracts of an option, signed as they are held, into shares."""
        self._do("exercised", con_id, str(quantity), asdict(underlying))

    def correct_execution(self, exec_id: str, quantity: Decimal, price: Decimal, due: datetime) -> ExecutionEntry:
        """Book the next revision of an execution beside the one that it corrects."""
        self._do("fixed", exec_id, str(quantity), str(price), to_micros(due))
        return self.executions[-1]

    def forget_executions(self) -> None:
        """Lose the executions of the day, as a gateway that was set up anew; orders and balances stay."""
        self._do("forgotten")

    def report_commissions(self, exec_ids: list[str]) -> None:
        """Record that commissions were told."""
        self._do("told", exec_ids)

    def roll_day(self, day: str) -> None:
        """Forget finished orders and executions of the day before."""
        self._do("day", day)

    def set_day_equity(self, equity: Decimal) -> None:
        """Record the equity that the day began with."""
        self._do("equity", str(equity))

    def roll_back_ids(self, by: int) -> None:
        """Let every client's next order ids be used again; finished orders that had them lose their place."""
        for client_id, next_id in self.next_ids.items():
            self.next_ids[client_id] = max(1, next_id - by)
        for key in [
            key for key, order in self.orders.items() if order.is_done and key[1] >= self.next_ids.get(key[0], 1)
        ]:
            del self.orders[key]

    # their effects

    def _apply_born(self, seconds: int, account: str, currency: str) -> None:
        if (account, currency) != (self.account.account_id, self.account.currency):
            raise ConfigError(
                f"The gateway's state file belongs to account {account} in {currency}: use these, another state file, "
                "or --reset.",
                code="state_file",
            )
        self.born_s = seconds

    def _apply_anchor(self, origin_us: int, minutes: float, speed: float) -> None:
        self.anchor = Anchor(origin_us, minutes, speed)

    def _apply_id(self, client_id: int, next_id: int) -> None:
        self.next_ids[client_id] = max(self.next_ids.get(client_id, 1), next_id)

    def _apply_ref(self, order_ref: str, count: int) -> None:
        self.order_refs[order_ref] += count

    def _apply_order(self, encoded: dict[str, Any]) -> None:
        order = decode_order(encoded, self.table)
        known = self.by_perm.get(order.perm_id)
        if known is not None:
            # Others hold the record: change it in place.
            for name in OrderRecord.__slots__:
                setattr(known, name, getattr(order, name))
            order = known
        if order.request.order_id:
            self.orders[order.key] = order
        self.by_perm[order.perm_id] = order
        self.perm_ids = max(self.perm_ids, order.perm_id - self.born_s % 2_000_000_000)
        self._file(order)

    def _file(self, order: OrderRecord) -> None:
        if order.is_done:
            self.working.pop(order.perm_id, None)
        else:
            self.working[order.perm_id] = order

    def _apply_status(self, perm_id: int, status: str, triggered: bool, done_us: int | None, reason: str) -> None:
        order = self.by_perm[perm_id]
        order.status, order.triggered, order.done_us, order.reason = status, triggered, done_us, reason
        self._file(order)

    def _apply_manual(self, count: int) -> None:
        self.manual_ids = count

    def _apply_trail(self, perm_id: int, stop: str, since_us: int) -> None:
        order = self.by_perm[perm_id]
        order.stop, order.since_us = Decimal(stop), since_us

    def _apply_exec(
        self, exec_id: str, perm_id: int, quantity_text: str, price_text: str, fee_text: str, time_us: int, due_us: int
    ) -> None:
        order = self.by_perm[perm_id]
        quantity, price, fee = Decimal(quantity_text), Decimal(price_text), Decimal(fee_text)
        self._fill(order, quantity, price, time_us)
        signed = quantity if order.is_buy else -quantity
        realized = self.account.apply(Trade(order.contract, signed, price, fee))
        cum, average = order.filled, order.average_price
        self._file_execution(order, _Deal(exec_id, quantity, price, fee, realized, time_us, due_us, cum, average))

    def _fill(self, order: OrderRecord, quantity: Decimal, price: Decimal, time_us: int) -> None:
        order.filled += quantity
        order.value += quantity * price
        order.last_price = price
        order.since_us = max(order.since_us, time_us)
        if order.remaining <= 0:
            order.status, order.done_us = "Filled", time_us
            self._file(order)
        else:
            order.status = "Submitted"

    def _apply_combo(
        self,
        exec_id: str,
        perm_id: int,
        quantity_text: str,
        price_text: str,
        time_us: int,
        due_us: int,
        legs: list[Any],
    ) -> None:
        order = self.by_perm[perm_id]
        quantity, price = Decimal(quantity_text), Decimal(price_text)
        self._fill(order, quantity, price, time_us)
        whole = _Deal(exec_id, quantity, price, None, None, time_us, due_us, order.filled, order.average_price)
        self._file_execution(order, whole)
        family = ".".join(exec_id.split(".")[:2])
        for number, (con_id, exchange, *texts) in enumerate(legs, start=2):
            signed, leg_price, fee = (Decimal(text) for text in texts)
            contract = replace(self.table.get(con_id).contract, exchange=exchange)
            cum, average = self.leg_filled(perm_id, con_id)
            realized = self.account.apply(Trade(contract, signed, leg_price, fee))
            done = cum + abs(signed)
            deal = _Deal(
                exec_id=f"{family}.{number:02d}.01.01",
                quantity=abs(signed),
                price=leg_price,
                fee=fee,
                realized=realized,
                time_us=time_us,
                due_us=due_us,
                cum=done,
                average=(cum * average + abs(signed) * leg_price) / done,
                leg=(contract, signed > 0),
            )
            self._file_execution(order, deal)

    def _apply_flow(self, currency: str, amount: str) -> None:
        self.account.move_cash(currency, Decimal(amount))

    def _apply_moved(self, contract: dict[str, Any], quantity: str) -> None:
        self.account.move_position(Contract(**contract), Decimal(quantity))

    def _apply_settled(self, con_id: int, price: str) -> None:
        self.account.settle(con_id, Decimal(price))

    def _apply_exercised(self, con_id: int, quantity: str, underlying: dict[str, Any]) -> None:
        self.account.exercise(con_id, Decimal(quantity), Contract(**underlying))

    def _apply_fixed(self, exec_id: str, quantity_text: str, price_text: str, due_us: int) -> None:
        entry = next(one for one in self.executions if one.execution.exec_id == exec_id)
        old, fee = entry.execution, None if entry.commission is None else entry.commission.amount
        order = self.by_perm[old.perm_id]
        quantity, price = Decimal(quantity_text), Decimal(price_text)
        bought = old.side == "BOT"
        sign = 1 if bought else -1
        is_leg = old.contract.con_id != order.contract.con_id
        cum, average = old.cum_quantity + quantity - old.quantity, old.average_price
        if not is_leg:
            order.filled += quantity - old.quantity
            order.value += quantity * price - old.quantity * old.price
            cum, average = order.filled, order.average_price
        if old.contract.sec_type != "BAG":
            self.account.apply(Trade(old.contract, -sign * old.quantity, old.price, ZERO))
            if quantity:
                self.account.apply(Trade(old.contract, sign * quantity, price, ZERO))
        family, _, revision = exec_id.rpartition(".")
        deal = _Deal(
            exec_id=f"{family}.{int(revision) + 1:02d}",
            quantity=quantity,
            price=price,
            fee=fee,
            realized=None,
            time_us=to_micros(old.time),
            due_us=due_us,
            cum=cum,
            average=average,
            leg=(old.contract, bought) if is_leg else None,
        )
        self._file_execution(order, deal)

    def _apply_forgotten(self) -> None:
        self.executions, self.unreported = [], {}

    def _file_execution(self, order: OrderRecord, deal: _Deal) -> None:
        request = order.request
        contract, bought = deal.leg or (order.contract, order.is_buy)
        execution = Execution(
            exec_id=deal.exec_id,
            time=from_micros(deal.time_us),
            account=self.account.account_id,
            contract=contract,
            side="BOT" if bought else "SLD",
            quantity=deal.quantity,
            price=deal.price,
            perm_id=order.perm_id,
            client_id=request.client_id,
            order_id=request.order_id,
            cum_quantity=deal.cum,
            average_price=deal.average,
            exchange=execution_exchange(contract),
            order_ref=request.order_ref,
        )
        commission = None
        if deal.fee is not None:
            commission = Commission(deal.exec_id, deal.fee, contract.currency, deal.realized, request.client_id)
        entry = ExecutionEntry(execution, commission, deal.due_us, reported=commission is None)
        self.executions.append(entry)
        if commission is not None:
            self.unreported[deal.exec_id] = entry
        self.exec_ids = max(self.exec_ids, int(deal.exec_id.split(".")[1], 16))

    def _apply_told(self, exec_ids: list[str]) -> None:
        for exec_id in exec_ids:
            entry = self.unreported.pop(exec_id, None)
            if entry is not None:
                entry.reported = True

    def _apply_day(self, day: str) -> None:
        self.day = day
        self.account.end_day()
        kept = [e for e in self.executions if not e.reported]
        needed = {e.execution.perm_id for e in kept}
        self.executions = kept
        for order in [o for o in self.by_perm.values() if o.is_done and o.perm_id not in needed]:
            del self.by_perm[order.perm_id]
            if self.orders.get(order.key) is order:
                del self.orders[order.key]

    def _apply_equity(self, equity: str) -> None:
        self.account.day_start_equity = Decimal(equity)

    # snapshot

    def records(self) -> Iterable[Record]:
        """The fewest records that rebuild this state."""
        yield ["born", self.born_s, self.account.account_id, self.account.currency]
        yield ["day", self.day]
        if self.anchor is not None:
            yield ["anchor", self.anchor.origin_us, self.anchor.minutes, self.anchor.speed]
        yield from (["id", client_id, next_id] for client_id, next_id in self.next_ids.items())
        yield from (["ref", ref, count] for ref, count in self.order_refs.items())
        yield ["counters", self.perm_ids, self.exec_ids]
        yield ["manual", self.manual_ids]
        yield ["cash", {currency: str(amount) for currency, amount in self.account.cash.items()}]
        for holding in self.account.holdings.values():
            costs = [str(holding.quantity), str(holding.average_cost), str(holding.realized)]
            yield ["holding", asdict(holding.contract), *costs]
        if self.account.day_start_equity is not None:
            yield ["equity", str(self.account.day_start_equity)]
        yield from (["order", encode_order(order)] for order in self.by_perm.values())
        yield from (encode_past(entry, self.by_perm[entry.execution.perm_id]) for entry in self.executions)
        yield ["told", [e.execution.exec_id for e in self.executions if e.reported]]

    def _apply_counters(self, perm_ids: int, exec_ids: int) -> None:
        self.perm_ids, self.exec_ids = perm_ids, exec_ids

    def _apply_cash(self, amounts: dict[str, str]) -> None:
        self.account.cash = {currency: Decimal(amount) for currency, amount in amounts.items()}

    def _apply_holding(self, contract: dict[str, Any], quantity: str, cost: str, realized: str) -> None:
        restored = Contract(**contract)
        self.account.holdings[restored.con_id] = Holding(restored, Decimal(quantity), Decimal(cost), Decimal(realized))

    def _apply_past(self, encoded: dict[str, Any]) -> None:
        """An execution that cash and positions already contain."""
        order = self.by_perm[encoded["perm_id"]]
        realized = encoded["realized"]
        deal = _Deal(
            exec_id=encoded["exec_id"],
            quantity=Decimal(encoded["quantity"]),
            price=Decimal(encoded["price"]),
            fee=None if encoded["commission"] is None else Decimal(encoded["commission"]),
            realized=None if realized is None else Decimal(realized),
            time_us=encoded["time_us"],
            due_us=encoded["due_us"],
            cum=Decimal(encoded["cum"]),
            average=Decimal(encoded["average"]),
            leg=None if "leg" not in encoded else (self._leg_contract(*encoded["leg"][:2]), encoded["leg"][2]),
        )
        self._file_execution(order, deal)

    def _leg_contract(self, con_id: int, exchange: str) -> Contract:
        return replace(self.table.get(con_id).contract, exchange=exchange)


_APPLY: dict[str, Any] = {
    name.removeprefix("_apply_"): getattr(VenueState, name) for name in dir(VenueState) if name.startswith("_apply_")
}
