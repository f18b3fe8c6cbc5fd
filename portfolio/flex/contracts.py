"""Turn a statement's instruments and trades into what the fold takes. No guess: what is missing is an error.

Source: IB's statement names options and futures by the exchange's symbol and currency pairs as ``EUR.USD``; the API's
ticker is the underlying's, or the pair's first currency.
"""

from __future__ import annotations

from collections.abc import Iterable

from portfolio.flex.rows import ContractRow, FlexFile, TradeRow
from portfolio.instruments import ensure_instruments
from portfolio.models import Instrument
from strategies.events import ContractSnapshot, FillSnapshot
from strategies.exceptions import LedgerError

_BY_UNDERLYING = {"OPT", "FOP", "FUT", "WAR"}
_KNOWN = {"STK", "OPT", "FOP", "FUT", "CASH", "BOND", "FUND", "CFD", "WAR", "CRYPTO", "CMDTY"}
_SMART = {"STK", "OPT", "WAR", "FUND"}


def fill_of(row: TradeRow, account_id: str, contract: ContractSnapshot) -> FillSnapshot:
    """Return a trade as an execution."""
    commission = None if row.commission is None else -row.commission
    return FillSnapshot(
        exec_id=row.exec_id,
        account=account_id,
        contract=contract,
        side="BOT" if row.side == "BUY" else "SLD",
        quantity=abs(row.quantity),
        price=row.price,
        executed_at=row.executed_at,
        perm_id=0,  # the statement's order number is not proven to be the API's permId
        client_id=0,
        order_id=0,
        order_ref=row.order_ref,
        cum_quantity=abs(row.quantity),
        average_price=row.price,
        exchange=row.exchange,
        commission=commission,
        commission_currency=row.commission_currency,
        is_replay=True,
        in_currency=True,
    )


def contract_of(row: ContractRow) -> ContractSnapshot:
    """Return the contract, by the books where they know it.

    Raises: LedgerError when the books do not know it and the statement does not tell enough, or they contradict.
    """
    known = Instrument.objects.filter(con_id=row.con_id).first()
    if known is None:
        return _new_contract(row)
    if (known.sec_type, known.currency, known.multiplier) != (row.category, row.currency, row.multiplier):
        raise LedgerError(
            f"Contract {row.con_id} ({known.symbol}) is {known.sec_type} in {known.currency} × {known.multiplier:f} in "
            f"the books, the statement says {row.category} in {row.currency} × {row.multiplier:f}.",
            code="instrument_changed",
            con_id=row.con_id,
        )
    return ContractSnapshot(
        known.con_id, known.symbol, known.sec_type, known.exchange, known.currency, multiplier=known.multiplier
    )


def _new_contract(row: ContractRow) -> ContractSnapshot:
    symbol = row.symbol
    if row.category in _BY_UNDERLYING:
        symbol = row.underlying_symbol
    elif row.category == "CASH":
        symbol = row.symbol.partition(".")[0]
    if not symbol or row.category not in _KNOWN or not row.con_id:
        raise LedgerError(
            f"The statement does not tell enough about contract {row.con_id} ({row.symbol}); add the underlying's "
            "symbol and the asset class to the Flex query.",
            code="unknown_contract",
            con_id=row.con_id,
        )
    return ContractSnapshot(
        con_id=row.con_id,
        symbol=symbol,
        sec_type=row.category,
        exchange="SMART" if row.category in _SMART else row.exchange,
        currency=row.currency,
        primary_exchange=row.exchange if row.category == "STK" else "",
        local_symbol=row.symbol,
        multiplier=row.multiplier,
        expiry=row.expiry,
        strike=row.strike,
        right=row.right,
    )


def know_contracts(file: FlexFile, con_ids: Iterable[object]) -> None:
    """Make the instruments that a proposal names and the books lack, where the statement tells them completely."""
    wanted = {one for one in con_ids if isinstance(one, int)}
    missing = wanted - set(Instrument.objects.filter(con_id__in=wanted).values_list("con_id", flat=True))
    told = {row.con_id: row for row in _told(file) if row.con_id in missing and row.category}
    if told:
        ensure_instruments(_new_contract(row) for row in told.values())


def _told(file: FlexFile) -> Iterable[ContractRow]:
    for statement in file.statements:
        yield from (row.contract for row in statement.trades)
        yield from (row.contract for row in statement.corporate)
        yield from (row.contract for row in statement.options)
        yield from (row.contract for row in statement.positions)
