"""Reads now and then whose margin the account's margin is: IB is asked what closing each position would release.

Owns: when it is read, IB's figure and its answers of one moment, the row that pages and API show.
Leaves: the division (``portfolio.ledger.margin``), asking (``margin_desk``), showing (``risk_queries``).
Rule: a reading is of one moment: while positions change it is begun anew. What IB does not answer makes parts unknown,
never zero; a reading that was whole stands for a while with the reason why there is no newer one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Protocol

from portfolio.accounts import NET_FRESH, to_decimal
from portfolio.ledger.margin import Held, divide_margin, net_of
from portfolio.models import Account, AccountValue, Instrument
from strategies.exceptions import MatsError
from strategies.models import DISCRETIONARY, Strategy
from trading.engine import events
from trading.engine.events import EventKind, plain
from trading.engine.gate import Gate
from trading.engine.message_queue import MessageQueue
from trading.engine.risk_desk import RiskDesk
from trading.orders.facts import MarginImpact
from trading.orders.margins import single
from trading.risk_models import MarginReading

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
PAUSE_S = 30.0  # between two readings, however often positions change
RETRY_S = 60.0  # after one that is not whole
ANSWERS_S = 600.0  # for how long an answer about a position that did not change may serve
STANDS_S = 900.0  # for how long a whole reading stands while the next ones fail
TRIES = 3
TAGS = {"InitMarginReq": "initial", "MaintMarginReq": "maintenance"}
Released = dict[int, tuple[Decimal | None, Decimal | None]]


class Host(Protocol):
    """What the readings need of the engine."""

    account_id: str
    gate: Gate
    message_queue: MessageQueue
    risk: RiskDesk


@dataclass(frozen=True, slots=True)
class Figures:
    """IB's margin of the account in base currency; None where it said nothing lately."""

    currency: str
    initial: Decimal | None
    maintenance: Decimal | None


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading; ``problem`` says why parts of it are not known."""

    figures: Figures
    owners: dict[str, tuple[Decimal | None, Decimal | None]]
    net: dict[int, Decimal]
    released: Released
    problem: str

    @property
    def is_whole(self) -> bool:
        """Tell whether every part is known."""
        return all(None not in parts for parts in self.owners.values())


class MarginShares:
    """The readings of one engine. ``look`` is called by the clock, ``read_now`` by who wants one at once."""

    def __init__(self, host: Host, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._every_s = every_s
        self._clock = clock
        self._held: Sequence[Held] | None = None
        self._tried_at = float("-inf")
        self._whole_at = float("-inf")
        self._was_whole = True

    def look(self) -> None:
        """Take a reading when one is due."""
        if not (self._every_s and self._host.account_id and self._host.gate.is_open):
            return
        age_s = self._clock() - self._tried_at
        due_s = self._every_s if self._was_whole else min(self._every_s, RETRY_S)
        if age_s >= due_s or (age_s >= PAUSE_S and self._holdings() != self._held):
            self.read_now()

    def read_now(self) -> Reading:
        """Take a reading and have it stored. Blocks its thread for a round trip a contract.

        Raises: LedgerError while the account is not known.
        """
        self._tried_at = self._clock()
        reading = self._read()
        self._was_whole = reading.is_whole
        if reading.is_whole:
            self._whole_at = self._clock()
        keeps = self._clock() - self._whole_at < STANDS_S and not reading.is_whole
        account_id = self._host.account_id
        self._host.message_queue.submit(lambda: store(account_id, reading, keeps=keeps), "margin")
        return reading

    def _holdings(self) -> list[Held]:
        rows = self._host.risk.account.holdings()
        return sorted(
            (Held(row.owner, row.con_id, row.quantity) for row in rows), key=lambda row: (row.owner, row.con_id)
        )

    def _read(self) -> Reading:
        for _ in range(TRIES):
            held = self._holdings()
            net = net_of(held)
            released, problems, figures = self._released(net)
            if self._holdings() == held:
                break
        else:
            released, problems = {}, ["Positions change faster than IB answers."]
        self._held = held
        return _divided(figures, held, net, released, problems)

    def _released(self, net: dict[int, Decimal]) -> tuple[Released, list[str], Figures]:
        """Ask what closing each position would release; the account's margin is what the last answer says of now."""
        found: Released = {}
        problems: list[str] = []
        figures = figures_of(self._host.account_id)
        for place, (con_id, quantity) in enumerate(net.items(), 1):
            max_age_s = ANSWERS_S if place < len(net) else 0.0
            try:
                impact = self._host.risk.margins.impact(single(con_id, -quantity, net), max_age_s)
            except MatsError as error:
                problems.append(f"{name_of(con_id)}: {error.message}")
                continue
            found[con_id] = (_freed(impact.initial_margin_change), _freed(impact.maintenance_margin_change))
            figures = Figures(figures.currency, *bound_before(impact))
        return found, problems, figures


def bound_before(impact: MarginImpact) -> tuple[Decimal | None, Decimal | None]:
    """Return the initial and maintenance margin that IB's answer says are bound as things stand."""
    pairs = (
        (impact.initial_margin_after, impact.initial_margin_change),
        (impact.maintenance_margin_after, impact.maintenance_margin_change),
    )
    initial, maintenance = (None if after is None or change is None else after - change for after, change in pairs)
    return initial, maintenance


def _freed(change: Decimal | None) -> Decimal | None:
    return None if change is None else -change


def _divided(
    figures: Figures, held: Sequence[Held], net: dict[int, Decimal], released: Released, problems: list[str]
) -> Reading:
    owners = [*Strategy.objects.values_list("symbol", flat=True), *(row.owner for row in held)]
    parts = [
        divide_margin(total, {con_id: pair[place] for con_id, pair in released.items()}, held, owners, DISCRETIONARY)
        for place, total in enumerate((figures.initial, figures.maintenance))
    ]
    if figures.initial is None or figures.maintenance is None:
        problems = [*problems, "IB has not said the account's margin lately."]
    found = Reading(figures, {owner: (parts[0][owner], parts[1][owner]) for owner in parts[0]}, net, released, "")
    if not problems and not found.is_whole:
        problems = ["Closing no position by itself would release margin, so IB's answers do not say who binds it."]
    return Reading(figures, found.owners, net, released, " ".join(problems))


def figures_of(account_id: str) -> Figures:
    """Return IB's margin of the account, None where it was last confirmed too long ago."""
    currency = Account.objects.filter(pk=account_id).values_list("base_currency", flat=True).first() or ""
    rows = AccountValue.objects.filter(
        account_id=account_id, currency=currency, tag__in=TAGS, updated_at__gt=datetime.now(UTC) - NET_FRESH
    )
    values = {TAGS[row.tag]: to_decimal(row.value) for row in rows}
    return Figures(currency, values.get("initial"), values.get("maintenance"))


def name_of(con_id: int) -> str:
    """Return how a person calls a contract."""
    found = Instrument.objects.filter(pk=con_id).first()
    return f"contract {con_id}" if found is None else str(found)


def store(account_id: str, reading: Reading, *, keeps: bool) -> None:
    """Write the row and report it; ``keeps`` leaves the whole reading that stands and notes the problem alone."""
    if keeps and MarginReading.objects.filter(pk=account_id).update(problem=reading.problem[:400]):
        return
    symbols = {row.con_id: str(row) for row in Instrument.objects.filter(con_id__in=reading.net)}
    MarginReading.objects.update_or_create(
        account_id=account_id,
        defaults={
            "currency": reading.figures.currency,
            "at": datetime.now(UTC),
            "initial": reading.figures.initial,
            "maintenance": reading.figures.maintenance,
            "owners": [
                {"owner": owner, "initial": plain(initial), "maintenance": plain(maintenance)}
                for owner, (initial, maintenance) in reading.owners.items()
            ],
            "contracts": [
                {
                    "con_id": con_id,
                    "symbol": symbols.get(con_id, ""),
                    "quantity": plain(quantity),
                    "initial": plain(reading.released.get(con_id, (None, None))[0]),
                    "maintenance": plain(reading.released.get(con_id, (None, None))[1]),
                }
                for con_id, quantity in reading.net.items()
            ],
            "problem": reading.problem[:400],
        },
    )
    events.emit(EventKind.RISK, {"owner": "", "what": "margin read"})
