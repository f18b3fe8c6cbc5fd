"""Rows on their way to a symbol, and which schema a symbol has.

Owns: the values that sources hand to the projector. Leaves: where rows come from (``sources``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from portfolio.arctic.registry import Row
from portfolio.arctic.schema import (
    ACCOUNT_SUMMARY,
    FILLS,
    FX_RATES,
    ORDERS,
    PORTFOLIO_HISTORY,
    POSITIONS,
    STRATEGY,
    Schema,
)

SCHEMAS: dict[str, Schema] = {
    "fills": FILLS,
    "positions": POSITIONS,
    "orders": ORDERS,
    "strategy": STRATEGY,
    "account_summary": ACCOUNT_SUMMARY,
    "portfolio_history": PORTFOLIO_HISTORY,
    "fx_rates": FX_RATES,
}
MADE_ANEW = {"strategy": 2}  # raised when rows of the same columns get other values: the symbols are written anew
STRATEGY_PREFIX = "strategy_"
_BY_OWNER = frozenset({"fills", "positions", "orders"})
_BY_ACCOUNT = frozenset({"account_summary", "portfolio_history", "fx_rates"})


@dataclass(frozen=True, slots=True)
class Record:
    """One row of one symbol: its place in the source, its time, its values."""

    seq: int
    at: datetime
    values: Row


@dataclass(frozen=True, slots=True)
class Target:
    """A symbol and its schema."""

    library: str
    symbol: str
    schema_name: str

    @property
    def key(self) -> str:
        """The name in ProjectionCursor."""
        return f"{self.library}:{self.symbol}"

    @property
    def schema(self) -> Schema:
        """The columns of this symbol."""
        return SCHEMAS[self.schema_name]

    @property
    def shape(self) -> str:
        """The columns and their types as one text, kept with the data: another shape is written anew."""
        columns = ",".join(f"{name}:{kind}" for name, kind in self.schema.items())
        made = MADE_ANEW.get(self.schema_name)
        return f"{made};{columns}" if made else columns


Batch = dict[Target, list[Record]]


def target_of(key: str) -> Target | None:
    """Return the target of a ``library:symbol``, None when MATS keeps no history under such a name.

    >>> target_of("DU1:fills/ALPHA").schema_name, target_of("DU1:strategy_ALPHA").schema_name, target_of("DU1:notes")
    ('fills', 'strategy', None)
    """
    library, _, symbol = key.partition(":")
    if symbol.startswith(STRATEGY_PREFIX):
        return Target(library, symbol, "strategy")
    name, slash, _ = symbol.partition("/")
    known = _BY_OWNER if slash else _BY_ACCOUNT
    return Target(library, symbol, name) if name in known else None
