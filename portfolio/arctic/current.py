"""What stands now, as whole tables: ``portfolio`` of each account and ``general/settings``.

Owns: making and writing them. Rule: a table is written when it differs from the one that was written last; it is
derived from the ledger each time and nothing is read back from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

import pandas as pd
from django.conf import settings

from portfolio.accounts import net_liquidation, rates_of
from portfolio.arctic.schema import PORTFOLIO, frame
from portfolio.arctic.writer import ArcticWriter
from portfolio.ledger.fx import Rates
from portfolio.ledger.money import ONE, ZERO
from portfolio.models import (
    Account,
    Break,
    BreakKind,
    BreakState,
    BrokerHolding,
    CashBalance,
    Instrument,
    Mark,
    Position,
)
from strategies.exceptions import LedgerError
from strategies.models import DISCRETIONARY

SYMBOL = "portfolio"
_HUNDRED = Decimal(100)
Known = TypeVar("Known")
# Only what is here is written: an address or an option that carries a secret must never be.
_SETTINGS = (
    "ib_host",
    "ib_port",
    "max_clients",
    "embedded_gateway",
    "gateway_market",
    "gateway_speed",
    "allow_live",
    "web_host",
    "web_port",
    "log_level",
    "equity_interval_s",
    "stop_timeout_s",
)


class CurrentTables:
    """Writes the tables of what stands now; remembers what it wrote."""

    def __init__(self) -> None:
        self._written: dict[str, str] = {}

    def write(self, writer: ArcticWriter) -> int:
        """Write every table that changed; return how many.

        Raises: ArcticUnavailableError; the next call writes it.
        """
        done = 0
        for account in Account.objects.filter(opened_at__isnull=False).order_by("account_id"):
            table = frame(portfolio_rows(account), PORTFOLIO)
            done += self._put(writer, account.account_id, SYMBOL, table)
        return done + self._put(writer, "general", "settings", settings_frame())

    def _put(self, writer: ArcticWriter, library: str, symbol: str, table: pd.DataFrame) -> int:
        key, digest = f"{library}:{symbol}", digest_of(table)
        if key not in self._written:
            self._written[key] = str(writer.client.metadata(library, symbol).get("digest", ""))
        if self._written[key] == digest:
            return 0
        writer.write(library, symbol, table, {"digest": digest, "rows": len(table)})
        self._written[key] = digest
        return 1


def digest_of(table: pd.DataFrame) -> str:
    """Return a hash of a table's content and shape."""
    found = hashlib.sha256(repr([*table.columns, *table.dtypes]).encode())
    found.update(pd.util.hash_pandas_object(table, index=True).to_numpy().tobytes())
    return found.hexdigest()


def settings_frame() -> pd.DataFrame:
    """Return the settings that are no secret: index ``key``, one column ``Value``, all text."""
    store, _, place = settings.MATS.arctic_uri.partition("://")
    found = {name: str(getattr(settings.MATS, name)) for name in _SETTINGS}
    found["arctic_store"] = store
    found["s3_db_management"] = str(store in {"s3", "s3s"})
    if store in {"s3", "s3s"}:
        found["bucket_name"] = place.partition("?")[0].rpartition(":")[2]
    keys = sorted(found)
    return pd.DataFrame({"Value": [found[key] for key in keys]}, index=pd.Index(keys, name="key"))


def portfolio_rows(account: Account) -> list[dict[str, Any]]:
    """Return the account's open positions and cash by owner, by the columns of ``schema.PORTFOLIO``.

    Σ position of a contract is what IB holds: where the books and IB differ, Discretionary's row carries the
    difference of the open break and names it in ``unexplained``.
    """
    view = _View(account)
    rows = [view.position(*key) for key in sorted(view.held) if view.held[key][0]]
    cash = CashBalance.objects.filter(account=account).order_by("owner", "currency")
    return rows + [view.cash(one.owner, one.currency, one.amount) for one in cash if one.amount]


class _View:
    """Everything that the rows of one account need, read once."""

    def __init__(self, account: Account) -> None:
        self._gaps = _gaps(account)
        self.held: dict[tuple[str, int], tuple[Decimal, Decimal | None]] = {}  # quantity, basis; None is unknown
        for row in Position.objects.filter(account=account).values_list(
            "owner", "instrument_id", "quantity", "cost_basis"
        ):
            self.held[row[0], row[1]] = (row[2], row[3])
        self._instruments = Instrument.objects.in_bulk({*(con_id for _, con_id in self.held), *self._gaps})
        self._add_gaps(account)
        self._marks = Mark.objects.in_bulk(list(self._instruments))
        self._worth = _worth(account)
        self._nav = _known(lambda: net_liquidation(account.account_id, account.base_currency))

    def _add_gaps(self, account: Account) -> None:
        costs = dict(BrokerHolding.objects.filter(account=account).values_list("instrument_id", "average_cost"))
        for con_id, gap in self._gaps.items():
            rest = self.held.get((DISCRETIONARY, con_id), (ZERO, None))[0] + gap
            self.held[DISCRETIONARY, con_id] = (rest, self._rest_basis(con_id, rest, costs.get(con_id)))

    def _rest_basis(self, con_id: int, rest: Decimal, cost: Decimal | None) -> Decimal | None:
        """Return what IB's holding cost beyond the strategies' parts; None where that gives no price.

        IB's average cost has the multiplier in it, as a basis has, and fees, which these have not: it is an estimate.
        """
        if cost is None or not rest:
            return None
        parts = [part for (owner, held), part in self.held.items() if held == con_id and owner != DISCRETIONARY]
        given = sum((quantity for quantity, _ in parts), ZERO)
        basis = cost * (given + rest) - sum((basis or ZERO for _, basis in parts), ZERO)
        return basis if basis * rest >= 0 else None

    def position(self, owner: str, con_id: int) -> dict[str, Any]:
        instrument, mark = self._instruments[con_id], self._marks.get(con_id)
        quantity, basis = self.held[owner, con_id]
        units = quantity * instrument.multiplier
        value = None if mark is None else units * mark.price
        gain = value - basis if value is not None and basis else None
        return {
            "timestamp": None if mark is None else mark.marked_at,
            "row_type": "POSITION",
            "strategy": owner,
            "con_id": con_id,
            "symbol": instrument.symbol,
            "asset_class": instrument.sec_type,
            "exchange": instrument.primary_exchange or instrument.exchange,
            "contract": instrument.local_symbol or instrument.symbol,
            "currency": instrument.currency,
            "multiplier": instrument.multiplier,
            "position": quantity,
            "average_cost": basis / units if units and basis is not None else None,
            "market_price": None if mark is None else mark.price,
            "market_value": value,
            "pnl %": gain / abs(basis) * _HUNDRED if gain is not None and basis else None,
            "unexplained": self._gaps.get(con_id, ZERO) if owner == DISCRETIONARY else ZERO,
            **self._in_base(value, instrument.currency),
        }

    def cash(self, owner: str, currency: str, amount: Decimal) -> dict[str, Any]:
        return {
            "row_type": "CASH",
            "strategy": owner,
            "con_id": 0,
            "symbol": currency,
            "asset_class": "CASH",
            "currency": currency,
            "multiplier": ONE,
            "position": amount,
            "average_cost": ONE,
            "market_price": ONE,
            "market_value": amount,
            "unexplained": ZERO,
            **self._in_base(amount, currency),
        }

    def _in_base(self, value: Decimal | None, currency: str) -> dict[str, Decimal | None]:
        worth = self._worth(currency)
        in_base = None if value is None or worth is None else value * worth
        return {
            "fx_rate": None if not worth else ONE / worth,
            "market_value_base": in_base,
            "% of nav": in_base / self._nav * _HUNDRED if in_base is not None and self._nav else None,
        }


def _gaps(account: Account) -> Mapping[int, Decimal]:
    rows = Break.objects.filter(account=account, kind=BreakKind.POSITION, state=BreakState.OPEN)
    found = rows.values_list("instrument_id", "ib_quantity", "ledger_quantity")
    return {con_id: theirs - ours for con_id, theirs, ours in found if con_id is not None}


def _worth(account: Account) -> Callable[[str], Decimal | None]:
    rates = _known(lambda: rates_of(account.account_id))
    cache: dict[str, Decimal | None] = {}

    def worth(currency: str) -> Decimal | None:
        if currency not in cache:
            cache[currency] = _convert(rates, currency)
        return cache[currency]

    return worth


def _convert(rates: Rates | None, currency: str) -> Decimal | None:
    return None if rates is None else _known(lambda: rates.convert(ONE, currency, rates.base))


def _known(ask: Callable[[], Known]) -> Known | None:
    try:
        return ask()
    except LedgerError:
        return None
