"""Whose bars a series has, and what it is called. Pure.

Owns: the names of series and what their metadata says of their instrument. Leaves: storing and finding a free name
(``portfolio.arctic.market_data``), reading (``data``).
Rule: a series has bars of one contract, known by its id and written into its metadata, never of a ticker: one ticker
names stocks in several currencies and on several exchanges, and options and futures besides. The bare ticker is the
name of the stock that was recorded first under it; every other contract has its id behind the ticker.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OWNER = "con_id"  # in a series' metadata
_OWN_NAME = re.compile(r".+\.\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Listing:
    """The contract that bars are of.

    >>> Listing(1, "SPY", "STK", "USD").wish, Listing(2, "SPY", "OPT", "USD").wish, Listing(2, "SPY", "OPT", "USD").own
    ('SPY', 'SPY.2', 'SPY.2')
    >>> Listing(3, "EUR", "CASH", "USD").wish
    'EUR.USD'
    """

    con_id: int
    symbol: str
    sec_type: str
    currency: str

    @property
    def own(self) -> str:
        """Return the name that no other contract can have."""
        return f"{self.symbol}.{self.con_id}"

    @property
    def wish(self) -> str:
        """Return the name that it has unless another contract has it: a ticker never names an option or future."""
        if self.sec_type == "CASH":
            return f"{self.symbol}.{self.currency}"
        return self.symbol if self.sec_type == "STK" else self.own

    def as_metadata(self) -> dict[str, Any]:
        """Return what a series says of its contract."""
        return {OWNER: self.con_id, "sec_type": self.sec_type, "currency": self.currency}


def owner_of(metadata: Mapping[str, Any]) -> int:
    """Return the contract id that a series names, 0 when it names none, as one that was imported by hand.

    >>> owner_of({"con_id": 265598}), owner_of({})
    (265598, 0)
    """
    return int(metadata.get(OWNER) or 0)


def is_own_name(name: str) -> bool:
    """Tell whether a name has a contract id in it, so that it is no ticker.

    >>> is_own_name("SPY.756733"), is_own_name("BRK.B"), is_own_name("SPY")
    (True, False, False)
    """
    return _OWN_NAME.fullmatch(name) is not None
