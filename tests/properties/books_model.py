"""A ledger by hand, to hold the books against: dictionaries and fractions, no rounding but where units are divided.

Owns: what every owner has and holds, from the reports that were delivered and the events that were booked. Written from
``docs/accounting.md`` and from nothing in ``portfolio``. Rule: nothing is updated in place; every question folds the
whole history again, in one pass over all owners and contracts, so that a correction, an assignment or an undo is only
another history.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import Any

from strategies.events import CommissionSnapshot, ContractSnapshot, FillSnapshot

ZERO = Fraction(0)
NOBODY = "Discretionary"
DIGITS = 10**10
Key = tuple[
    int, bool, datetime, bool, int, datetime
]  # place, behind, moment, itself or before it, own place, own moment


@dataclass
class Held:
    """One owner's position in one contract."""

    quantity: Fraction = ZERO
    basis: Fraction = ZERO
    realized: Fraction = ZERO

    def trade(self, quantity: Fraction, cash: Fraction) -> None:
        """Buy or sell at average cost; what is sold through zero opens anew."""
        after = self.quantity + quantity
        if self.quantity * quantity >= 0:
            basis = self.basis - cash
        elif after * self.quantity >= 0:
            basis = self.basis * after / self.quantity
        else:
            basis = -cash * after / quantity
        self.realized += cash + basis - self.basis
        self.quantity, self.basis = after, basis

    def cost_of(self, quantity: Fraction) -> Fraction:
        """Return the cost of a part, unsigned in direction: all of it when nothing stays on that side."""
        if self.quantity * quantity <= 0:
            return ZERO
        after = self.quantity - quantity
        return self.basis * quantity / self.quantity if after * self.quantity > 0 else self.basis


@dataclass
class Event:
    """Something booked that is no report: ``place`` orders it among the fills, before or behind those of its number."""

    kind: str
    place: int
    at: datetime
    data: dict[str, Any] = field(default_factory=dict)
    behind: bool = True

    @property
    def key(self) -> Key:
        """Where it stands."""
        return self.place, self.behind, self.at, True, self.place, self.at

    @property
    def contracts(self) -> set[int]:
        """What it acts on, or turns into."""
        names = () if self.behind else ("con_id", "new", "underlying")
        return {self.data[name] for name in names if name in self.data}

    def acts_on(self, con_id: int) -> bool:
        """Tell whether it changes what is held of a contract at its moment."""
        return not self.behind and self.data.get("con_id") == con_id


@dataclass
class Report:
    """One revision of one execution as it was delivered."""

    fill: FillSnapshot
    owner: str
    shares: dict[str, Fraction]
    moves: list[tuple[str, str, str, Fraction]] = field(default_factory=list)  # key, giver, receiver, quantity

    @property
    def signed(self) -> Fraction:
        """Quantity with its side."""
        size = Fraction(self.fill.quantity)
        return size if self.fill.side == "BOT" else -size

    def divided(self) -> dict[str, Fraction]:
        """Return who has how much of it."""
        found = dict(self.shares)
        for _, giver, receiver, quantity in self.moves:
            found[giver] = found.get(giver, ZERO) - quantity
            found[receiver] = found.get(receiver, ZERO) + quantity
        return {owner: quantity for owner, quantity in found.items() if quantity}


@dataclass
class State:
    """The whole history folded."""

    held: dict[tuple[str, int], Held] = field(default_factory=lambda: defaultdict(Held))
    cash: dict[tuple[str, str], Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    apart: dict[tuple[str, str], Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    flows: dict[tuple[str, str], Fraction] = field(default_factory=lambda: defaultdict(Fraction))


class Model:
    """The books as they must be."""

    def __init__(self, contracts: Iterable[ContractSnapshot], strategies: Iterable[str]) -> None:
        self.contracts = {one.con_id: one for one in contracts}
        self.strategies = set(strategies)
        self.reports: dict[str, Report] = {}
        self.families: dict[str, dict[int, str]] = defaultdict(dict)
        self.places: dict[str, int] = {}
        self.moments: dict[str, datetime] = {}  # when a family happened, by the revision that came first
        self.fees: dict[str, tuple[Fraction, str]] = {}
        self.more_fees: dict[str, list[tuple[str, Fraction, str]]] = defaultdict(list)  # key, amount, currency
        self.events: dict[str, Event] = {}
        self.contradicted: set[str] = set()
        self._clock = 0

    # -- what is delivered

    def hear(self, batch: Sequence[FillSnapshot | CommissionSnapshot]) -> None:
        """Take reports in as they were committed together: repeated executions by time among themselves."""
        again = iter(sorted((one for one in batch if _repeated(one)), key=lambda one: one.executed_at))  # type: ignore[union-attr]  # only fills are
        for one in batch:
            item = next(again) if _repeated(one) else one
            if isinstance(item, CommissionSnapshot):
                self._fee(item.exec_id, Fraction(item.amount), item.currency)
            else:
                self._fill(item)

    def _fee(self, exec_id: str, amount: Fraction, currency: str) -> None:
        known = self.fees.setdefault(exec_id, (amount, currency))
        if known != (amount, currency) and exec_id in self.reports:
            self.contradicted.add(exec_id)
        elif known != (amount, currency):
            self.fees[exec_id] = amount, currency  # nothing was booked on the first word

    def _fill(self, fill: FillSnapshot) -> None:
        known = self.reports.get(fill.exec_id)
        if known is not None:
            if content(known.fill) != content(fill):
                self.contradicted.add(fill.exec_id)
            return
        family, _, revision = fill.exec_id.rpartition(".")
        before = self.live_of(family)
        owner = fill.order_ref.partition("/")[0]
        report = Report(fill, owner if owner in self.strategies else NOBODY, {})
        report.shares = {report.owner: report.signed}
        if before is not None and int(before.fill.exec_id.rpartition(".")[2]) < int(revision):
            report.shares = divide(report.signed, before.divided(), _grain(report.signed, before.divided()))
        self.reports[fill.exec_id] = report
        self.families[family][int(revision)] = fill.exec_id
        self.moments.setdefault(family, fill.executed_at)
        self.places.setdefault(family, self._place_of(fill))

    def live_of(self, family: str) -> Report | None:
        """Return the revision in force."""
        known = self.families.get(family)
        return self.reports[known[max(known)]] if known else None

    def live(self) -> dict[str, Report]:
        """Return the executions in force by id."""
        return {ids[max(ids)]: self.reports[ids[max(ids)]] for ids in self.families.values() if ids}

    # -- what is booked

    def book(self, key: str, kind: str, at: datetime, **data: Any) -> None:
        """Take an event in, at the end of the history."""
        self.events[key] = Event(kind, self._next(), at, data)

    def happen(self, key: str, kind: str, at: datetime, con_id: int, **data: Any) -> None:
        """Take an event of a contract in at its moment: before the first fill that was executed then or later."""
        found = [self.places[family_of(one)] for one in self._after(con_id, at)]
        found += [one.place for one in self.events.values() if one.at > at and con_id in one.contracts]
        place = min(found) if found else self._next()
        self.events[key] = Event(kind, place, at, {"con_id": con_id, **data}, behind=False)

    def assign(self, key: str, exec_id: str, giver: str, receiver: str, quantity: Fraction | None) -> None:
        """Give an execution, or a part of it, to another owner."""
        report = self.reports[exec_id]
        part = report.divided()[giver]
        report.moves.append((key, giver, receiver, part if quantity is None else quantity * (1 if part > 0 else -1)))

    def fee(self, key: str, exec_id: str, amount: Fraction, currency: str) -> None:
        """Correct the commission of an execution."""
        self.more_fees[exec_id].append((key, amount, currency))

    def forget(self, key: str) -> None:
        """Undo: a history without it."""
        self.events.pop(key, None)
        for report in self.reports.values():
            report.moves = [move for move in report.moves if move[0] != key]
        for exec_id, fees in self.more_fees.items():
            self.more_fees[exec_id] = [fee for fee in fees if fee[0] != key]

    def _place_of(self, fill: FillSnapshot) -> int:
        """Return where a new fill stands: the last, unless its contract was split since it was executed."""
        at, con_id = fill.executed_at, fill.contract.con_id
        later = [one.place for one in self.events.values() if one.at > at and one.acts_on(con_id)]
        if later:
            after = [one for one in self._after(con_id, at) if self.reports[one].fill.executed_at > at]
            later += [self.places[family_of(one)] for one in after if one != fill.exec_id]
        return min(later) if later else self._next()

    def _next(self) -> int:
        self._clock += 1
        return self._clock

    def _after(self, con_id: int, at: datetime) -> list[str]:
        return [
            exec_id
            for exec_id, one in self.live().items()
            if one.fill.contract.con_id == con_id and one.fill.executed_at >= at
        ]

    # -- what follows

    def fold(self, until: Key | None = None) -> State:
        """Return what everybody has; ``until`` stops before a place."""
        state = State()
        for place, act in sorted(self._history(), key=lambda pair: pair[0]):
            if until is not None and place >= until:
                break
            self._apply(state, act)
        return state

    def _history(self) -> Iterable[tuple[Key, Any]]:
        for exec_id, report in self.live().items():
            yield self._key(family_of(exec_id), report.fill.contract.con_id), report
        for event in self.events.values():
            yield event.key, event

    def _key(self, family: str, con_id: int) -> Key:
        """Return where a fill stands: before the events of its contract that happened after it."""
        place, at = self.places[family], self.moments[family]
        later = [one.key for one in self.events.values() if one.acts_on(con_id) and one.at > at and one.place <= place]
        return (*min(later)[:3], False, place, at) if later else (place, True, at, True, place, at)

    def _apply(self, state: State, act: Report | Event) -> None:
        if isinstance(act, Report):
            self._trade(state, act)
        else:
            getattr(self, f"_{act.kind}")(state, **act.data)

    def _trade(self, state: State, report: Report) -> None:
        contract, exec_id = report.fill.contract, report.fill.exec_id
        price = Fraction(report.fill.price) * Fraction(contract.multiplier)
        fees = [fee[1:] for fee in self.more_fees[exec_id]]
        if exec_id in self.fees:
            amount, currency = self.fees[exec_id]
            fees.append((amount, currency or contract.currency))
        for owner, quantity in report.divided().items():
            self._swap(state, owner, contract.con_id, quantity, -quantity * price)
            for amount, currency in fees:
                self._earn(state, owner, contract.con_id, currency, -amount * quantity / report.signed)

    def _swap(self, state: State, owner: str, con_id: int, quantity: Fraction, cash: Fraction) -> None:
        state.held[owner, con_id].trade(quantity, cash)
        state.cash[owner, self.contracts[con_id].currency] += cash

    def _earn(self, state: State, owner: str, con_id: int | None, currency: str, amount: Fraction) -> None:
        state.cash[owner, currency] += amount
        if con_id is not None and self.contracts[con_id].currency == currency:
            state.held[owner, con_id].realized += amount
        else:
            state.apart[owner, currency] += amount

    def _flow(self, state: State, moves: Mapping[tuple[str, str], Fraction]) -> None:
        for key, amount in moves.items():
            state.cash[key] += amount
            state.flows[key] += amount

    def _opening(self, state: State, con_id: int, quantity: Fraction, basis: Fraction) -> None:
        held = state.held[NOBODY, con_id]
        held.quantity, held.basis = held.quantity + quantity, held.basis + basis
        state.flows[NOBODY, self.contracts[con_id].currency] += basis

    def _income(self, state: State, parts: Mapping[str, Fraction], currency: str, con_id: int | None = None) -> None:
        for owner, amount in parts.items():
            self._earn(state, owner, con_id, currency, amount)

    def _transfer(
        self, state: State, giver: str, receiver: str, con_id: int, quantity: Fraction, cash: Fraction
    ) -> None:
        self._swap(state, giver, con_id, -quantity, cash)
        self._swap(state, receiver, con_id, quantity, -cash)

    def _units(self, state: State, owner: str, con_id: int, quantity: Fraction, cash: Fraction) -> None:
        """Units against cash, and that cash over the border; a future's notional stays out of it."""
        self._swap(state, owner, con_id, quantity, cash)
        if self.contracts[con_id].sec_type != "FUT":
            self._flow(state, {(owner, self.contracts[con_id].currency): -cash})

    def _split(self, state: State, con_id: int, ratio: Fraction) -> None:
        for held in _of(state, con_id).values():
            after = rounded(held.quantity * ratio)
            if held.quantity and not after:
                held.realized, held.basis = held.realized - held.basis, ZERO
            held.quantity = after

    def _change(self, state: State, con_id: int, new: int, ratio: Fraction) -> None:
        currency = self.contracts[con_id].currency
        for owner, held in _of(state, con_id).items():
            quantity, cost = held.quantity, held.basis
            held.quantity = held.basis = ZERO
            state.cash[owner, currency] += cost
            if quantity:
                self._swap(state, owner, new, rounded(quantity * ratio), -cost)

    def _expiry(self, state: State, con_id: int, price: Fraction) -> None:
        for owner, held in _of(state, con_id).items():
            if held.quantity:
                cash = held.quantity * price * Fraction(self.contracts[con_id].multiplier)
                self._swap(state, owner, con_id, -held.quantity, cash)

    def _exercise(self, state: State, con_id: int, underlying: int, owners: Mapping[str, Fraction]) -> None:
        option = self.contracts[con_id]
        assert option.strike is not None
        for owner, contracts in owners.items():
            held = state.held[owner, con_id]
            cost = held.cost_of(contracts)
            held.quantity, held.basis = held.quantity - contracts, held.basis - cost
            state.cash[owner, option.currency] += cost
            shares = contracts * Fraction(option.multiplier) * (1 if option.right == "C" else -1)
            self._swap(state, owner, underlying, shares, -shares * Fraction(option.strike) - cost)

    def totals(self, state: State) -> tuple[dict[int, Fraction], dict[str, Fraction]]:
        """Return what the account holds and has, whoever owns it."""
        held: dict[int, Fraction] = defaultdict(Fraction)
        cash: dict[str, Fraction] = defaultdict(Fraction)
        for (_, con_id), one in state.held.items():
            held[con_id] += one.quantity
        for (_, currency), amount in state.cash.items():
            cash[currency] += amount
        return held, cash


def _of(state: State, con_id: int) -> dict[str, Held]:
    return {owner: held for (owner, of), held in state.held.items() if of == con_id}


def _repeated(item: FillSnapshot | CommissionSnapshot) -> bool:
    return isinstance(item, FillSnapshot) and item.is_replay


def content(fill: FillSnapshot) -> tuple[Any, ...]:
    """Return what two reports of one execution must agree in."""
    return fill.contract.con_id, fill.side, fill.quantity, fill.price


def family_of(exec_id: str) -> str:
    """Return what all revisions of an execution share."""
    return exec_id.rpartition(".")[0]


def rounded(number: Fraction) -> Fraction:
    """Return ten decimals of a quantity, half to even."""
    return Fraction(round(number * DIGITS), DIGITS)


def _grain(total: Fraction, parts: Mapping[str, Fraction]) -> Fraction:
    whole = all(one.denominator == 1 for one in (total, *parts.values()))
    return Fraction(1) if whole else Fraction(1, DIGITS)


def divide(total: Fraction, weights: Mapping[str, Fraction], unit: Fraction) -> dict[str, Fraction]:
    """Divide in proportion, in units; what is left over goes by units to those who lost most by rounding down."""
    whole = sum(weights.values(), ZERO)
    wanted = {owner: total * weights[owner] / whole / unit for owner in sorted(weights)}
    counts = {owner: int(one) for owner, one in wanted.items()}
    left = int(total / unit) - sum(counts.values())
    step = 1 if left > 0 else -1
    for owner in sorted(counts, key=lambda one: (step * (counts[one] - wanted[one]), -abs(weights[one]), one))[
        : abs(left)
    ]:
        counts[owner] += step
    parts = {owner: count * unit for owner, count in counts.items()}
    largest = max(sorted(parts), key=lambda owner: abs(weights[owner]))
    parts[largest] += total - sum(parts.values(), ZERO)
    return {owner: part for owner, part in parts.items() if part}
