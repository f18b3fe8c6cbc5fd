"""An order before it is one: what the strategy wants, in our words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from strategies.events import ContractSnapshot

FLATTEN = "flatten"


@dataclass(frozen=True, slots=True)
class OrderDraft:
    """What is written down before anything is sent. Units: ``quantity`` unsigned, prices in the contract's currency."""

    owner: str
    contract: ContractSnapshot
    side: str  # BUY or SELL
    quantity: Decimal
    order_type: str
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    tif: str = "DAY"
    account: str = ""
    client_id: int | None = None
    algo_strategy: str = ""
    algo: str = ""  # with its parameters, as the row remembers it
    trail_amount: Decimal | None = None
    trail_percent: Decimal | None = None
    limit_offset: Decimal | None = None
    good_till: datetime | None = None
    good_after: datetime | None = None
    outside_rth: bool = False
    oca_group: str = ""
    parent_ref: str = ""
    transmitted: bool = True  # False: held in TWS until a later child of its family is transmitted
    code_hash: str = ""
    params_revision: int = 0
    purpose: str = ""  # FLATTEN: closes a position by order of the kill switch, also while trading is halted

    @property
    def family(self) -> str:
        """Return what its orders that cancel each other have in common; empty for an order of its own."""
        return self.parent_ref or self.oca_group

    @property
    def signed_quantity(self) -> Decimal:
        """Return the change of the position: buys positive, sells negative."""
        return self.quantity if self.side == "BUY" else -self.quantity
