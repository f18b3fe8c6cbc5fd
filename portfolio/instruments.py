"""Keep one row for each IB contract.

Owns: when an instrument is made or refreshed. Rule: identity is the contract id; currency, type and multiplier never
change under an existing position, names may (a ticker is renamed).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal

from portfolio.bulk import read_rows
from portfolio.ledger.quotes import in_money, magnifier_of, may_be_magnified
from portfolio.ledger.validity import price_fault
from portfolio.models import FormerTicker, Instrument, Movement
from strategies.events import ContractSnapshot, FillSnapshot
from strategies.exceptions import LedgerError

logger = logging.getLogger(__name__)

_NAMES = ("symbol", "exchange", "primary_exchange", "local_symbol", "trading_class")
_FACTS = ("sec_type", "currency", "multiplier")
UNDESCRIBED = "unknown_magnifier"  # code of what waits until IB has described its contract


def ensure_instruments(contracts: Iterable[ContractSnapshot]) -> dict[int, Instrument]:
    """Return the rows of these contracts by contract id, made or refreshed where needed.

    Raises: LedgerError when a contract is not resolved, or contradicts what is booked under its id.
    """
    wanted = {contract.con_id: contract for contract in contracts}
    if 0 in wanted:
        raise LedgerError(
            "A contract without id cannot be booked.", code="unresolved_contract", symbol=wanted[0].symbol
        )
    found = {row.con_id: row for row in read_rows(Instrument, "con_id", wanted)}
    for con_id, contract in wanted.items():
        row = found.get(con_id)
        if row is None:
            found[con_id] = _create(contract)
        else:
            _refresh(row, contract)
    return found


def _create(contract: ContractSnapshot) -> Instrument:
    return Instrument.objects.create(
        con_id=contract.con_id,
        symbol=contract.symbol,
        sec_type=contract.sec_type,
        exchange=contract.exchange,
        primary_exchange=contract.primary_exchange,
        currency=contract.currency,
        local_symbol=contract.local_symbol,
        trading_class=contract.trading_class,
        multiplier=contract.multiplier,
        price_magnifier=contract.price_magnifier,
        expiry=contract.expiry[:8],
        strike=contract.strike,
        right=contract.right[:1],
    )


def _refresh(row: Instrument, contract: ContractSnapshot) -> None:
    for name in _FACTS:
        said, booked = getattr(contract, name), getattr(row, name)
        if said != booked:
            raise LedgerError(
                f"Contract {row.con_id} ({row.symbol}) is booked with {name} {booked}, IB now says {said}.",
                code="instrument_changed",
                con_id=row.con_id,
                field=name,
            )
    _refresh_magnifier(row, contract)
    changed = [name for name in _NAMES if getattr(contract, name) and getattr(contract, name) != getattr(row, name)]
    # The routing exchange differs from fill to fill; it is no reason to write.
    changed = [name for name in changed if name != "exchange" or not row.exchange]
    if changed:
        if "symbol" in changed:
            _keep_ticker(row)
        for name in changed:
            setattr(row, name, getattr(contract, name))
        row.save(update_fields=changed)


def _refresh_magnifier(row: Instrument, contract: ContractSnapshot) -> None:
    said = contract.price_magnifier
    if said is None or said == row.price_magnifier:
        return
    if row.price_magnifier is not None:
        raise LedgerError(
            f"Contract {row.con_id} ({row.symbol}) is booked with prices divided by {row.price_magnifier}, IB now says "
            f"{said}.",
            code="instrument_changed",
            con_id=row.con_id,
            field="price_magnifier",
        )
    row.price_magnifier = said
    row.save(update_fields=["price_magnifier"])


def fill_in_money(fill: FillSnapshot, row: Instrument) -> FillSnapshot:
    """Return an execution with its prices in the currency of its contract.

    Raises: LedgerError code unknown_magnifier while it may be quoted in pence or cents and IB has not said.
    """
    if fill.in_currency or row.price_magnifier == 1:
        return fill
    magnifier = magnifier_of(row.sec_type, row.currency, row.price_magnifier)
    if magnifier is None:
        raise LedgerError(
            f"Execution {fill.exec_id} of {row} at {fill.price} may be quoted in a part of {row.currency}; it waits "
            "until IB has described the contract.",
            code=UNDESCRIBED,
            exec_id=fill.exec_id,
            con_id=row.con_id,
        )
    if magnifier == 1:
        return fill
    average = in_money(fill.average_price, magnifier)
    return replace(fill, price=in_money(fill.price, magnifier), average_price=average, in_currency=True)


def marks_in_money(marks: Mapping[int, Decimal]) -> dict[int, Decimal]:
    """Return quoted prices of known contracts in their currencies; one whose unit is not known is left out.

    What cannot be a price of its kind, as −1 for a stock, is left out as well: nothing is worth that.
    """
    found = {}
    for row in instruments_by_id(marks):
        magnifier = magnifier_of(row.sec_type, row.currency, row.price_magnifier)
        fault = price_fault(row.sec_type, marks[row.con_id])
        if fault:
            logger.warning("price left out con_id=%s price=%s reason=%s", row.con_id, marks[row.con_id], fault)
        elif magnifier is None:
            logger.debug("price left out, its unit is not known con_id=%s symbol=%s", row.con_id, row.symbol)
        else:
            found[row.con_id] = in_money(marks[row.con_id], magnifier)
    return found


def undescribed_contracts(heard: Iterable[ContractSnapshot]) -> list[int]:
    """Return the ids of those, and of all known contracts, that may be quoted in a part of their currency, unknown."""
    rows = Instrument.objects.filter(price_magnifier=None).values_list("con_id", "sec_type", "currency")
    wanted = {con_id for con_id, *what in rows if may_be_magnified(*what)}
    known = set(Instrument.objects.exclude(price_magnifier=None).values_list("con_id", flat=True))
    new = {one.con_id for one in heard if one.price_magnifier is None and may_be_magnified(one.sec_type, one.currency)}
    return sorted(wanted | (new - known))


def describe_contracts(told: Iterable[ContractSnapshot]) -> None:
    """Keep how IB quotes contracts; those that the books have never seen are made.

    Raises: LedgerError code instrument_changed when IB contradicts what is booked.
    """
    ensure_instruments(told)


def _keep_ticker(row: Instrument) -> None:
    """Remember until which movement the contract had the name it is about to lose."""
    last = Movement.objects.order_by("-id").values_list("id", flat=True).first() or 0
    FormerTicker.objects.get_or_create(instrument=row, last_movement=last, defaults={"symbol": row.symbol})


def instruments_by_id(con_ids: Iterable[int]) -> list[Instrument]:
    """Return the known instruments among these ids."""
    return read_rows(Instrument, "con_id", con_ids)
