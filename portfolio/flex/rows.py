"""What a Flex statement says, row by row, as plain values. Pure.

Units: Decimal in the row's currency, signed as IB signs them (a commission that was paid is negative); aware UTC times,
dates are New York's. A text that the statement left out is empty, a number that it left out is None.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class ContractRow:
    """The instrument of a row, as far as the statement tells it."""

    con_id: int
    symbol: str
    category: str  # IB's asset category: STK, OPT, FUT, CASH, …
    currency: str
    exchange: str = ""
    multiplier: Decimal = Decimal(1)
    strike: Decimal | None = None
    expiry: str = ""  # yyyymmdd
    right: str = ""
    underlying_con_id: int = 0
    underlying_symbol: str = ""


@dataclass(frozen=True, slots=True)
class TradeRow:
    """One row of Trades at the level of an execution; ``quantity`` is signed."""

    exec_id: str
    trade_id: str
    transaction_id: str
    transaction_type: str  # ExchTrade, BookTrade, TradeCancel, TradeCorrect, FracShare, …
    contract: ContractRow
    side: str  # BUY, SELL, BUY (Ca.), SELL (Ca.)
    quantity: Decimal
    price: Decimal
    executed_at: datetime
    commission: Decimal | None
    commission_currency: str
    taxes: Decimal
    order_ref: str
    order_id: str
    exchange: str
    notes: frozenset[str]


@dataclass(frozen=True, slots=True)
class CashRow:
    """One row of CashTransactions; ``has_time`` tells whether IB gave a time of day."""

    transaction_id: str
    kind: str  # IB's word, for example Dividends
    amount: Decimal
    currency: str
    con_id: int
    symbol: str
    description: str
    at: datetime
    has_time: bool
    posted: date
    ex_date: date | None
    trade_id: str


@dataclass(frozen=True, slots=True)
class CorporateRow:
    """One row of CorporateActions."""

    transaction_id: str
    action_id: str
    kind: str  # IB's code: FS, RS, IC, TC, SO, …
    contract: ContractRow
    description: str
    quantity: Decimal
    amount: Decimal
    at: datetime
    posted: date


@dataclass(frozen=True, slots=True)
class OptionRow:
    """One row of OptionEAE: an exercise, assignment or expiry, or the shares that it moved."""

    kind: str  # Exercise, Assignment, Expiration, Buy, Sell
    contract: ContractRow
    quantity: Decimal
    price: Decimal | None
    day: date
    trade_id: str


@dataclass(frozen=True, slots=True)
class OpenRow:
    """One position at the end of the statement."""

    contract: ContractRow
    quantity: Decimal
    mark: Decimal | None


@dataclass(frozen=True, slots=True)
class AccrualRow:
    """One change of dividend accruals: it tells the ex-date of a payment."""

    con_id: int
    ex_date: date
    pay_date: date | None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read: shown, never guessed."""

    section: str
    number: int  # from 1, in its section
    name: str  # what identifies it, as far as it can be read
    text: str


@dataclass(slots=True)
class Statement:
    """All that MATS reads of one FlexStatement; ``sections`` are those that the query included."""

    account_id: str
    from_date: date
    to_date: date
    generated_at: datetime | None
    sections: set[str] = field(default_factory=set)
    trades: list[TradeRow] = field(default_factory=list)
    cash: list[CashRow] = field(default_factory=list)
    corporate: list[CorporateRow] = field(default_factory=list)
    options: list[OptionRow] = field(default_factory=list)
    positions: list[OpenRow] = field(default_factory=list)
    ending_cash: dict[str, Decimal] = field(default_factory=dict)
    accruals: list[AccrualRow] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)  # rows and sections that MATS has no use for


@dataclass(frozen=True, slots=True)
class FlexFile:
    """One file: a query's answer with one or more statements of one account."""

    query_name: str
    account_id: str
    statements: tuple[Statement, ...]

    @property
    def from_date(self) -> date:
        """The first day of all."""
        return min(one.from_date for one in self.statements)

    @property
    def to_date(self) -> date:
        """The last day of all."""
        return max(one.to_date for one in self.statements)

    @property
    def generated_at(self) -> datetime | None:
        """When IB made the latest of them."""
        return max((one.generated_at for one in self.statements if one.generated_at), default=None)
