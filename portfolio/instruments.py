"""Keep one row for each IB contract.

Owns: when an instrument is made or refreshed. Rule: identity is the contract id; currency, type and multiplier never
change under an existing position, names may (a ticker is renamed).
"""

from __future__ import annotations

from collections.abc import Iterable

from portfolio.bulk import read_rows
from portfolio.models import FormerTicker, Instrument, Movement
from strategies.events import ContractSnapshot
from strategies.exceptions import LedgerError

_NAMES = ("symbol", "exchange", "primary_exchange", "local_symbol", "trading_class")
_FACTS = ("sec_type", "currency", "multiplier")


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
    changed = [name for name in _NAMES if getattr(contract, name) and getattr(contract, name) != getattr(row, name)]
    # The routing exchange differs from fill to fill; it is no reason to write.
    changed = [name for name in changed if name != "exchange" or not row.exchange]
    if changed:
        if "symbol" in changed:
            _keep_ticker(row)
        for name in changed:
            setattr(row, name, getattr(contract, name))
        row.save(update_fields=changed)


def _keep_ticker(row: Instrument) -> None:
    """Remember until which movement the contract had the name it is about to lose."""
    last = Movement.objects.order_by("-id").values_list("id", flat=True).first() or 0
    FormerTicker.objects.get_or_create(instrument=row, last_movement=last, defaults={"symbol": row.symbol})


def instruments_by_id(con_ids: Iterable[int]) -> list[Instrument]:
    """Return the known instruments among these ids."""
    return read_rows(Instrument, "con_id", con_ids)
