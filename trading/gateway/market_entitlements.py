"""Which market data the paper user has subscribed to.

Owns: the text of the ``subscriptions`` option and what it means for an instrument.
Leaves: codes and texts of refusals (``wire_market``).
Rule: ``all``, or a list of security types and exchanges, such as ``STK,FUT,LSE``; a name with ``~`` is subscribed in
part. FX is free of charge. What is not subscribed is to be had with a delay, options are not to be had at all. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from strategies.exceptions import ConfigError
from trading.gateway.instruments import SEC_TYPES
from trading.gateway.model import Contract, Entitlement

ALL = "all"
_NAMES = SEC_TYPES | {
    "ARCA", "NASDAQ", "NYSE", "BATS", "AMEX", "LSE", "TSE", "CBOE", "CME", "CFE", "NYMEX", "COMEX",
    "IDEALPRO", "RUSSELL",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """Names subscribed in full and in part; None for everything."""

    full: frozenset[str] | None = None
    partial: frozenset[str] = frozenset()

    def of(self, contract: Contract) -> Entitlement:
        """What is to be had for a contract."""
        names = {contract.sec_type, contract.primary_exchange or contract.exchange}
        if self.full is None or names & self.full or contract.sec_type == "CASH":
            return Entitlement.FULL
        if names & self.partial:
            return Entitlement.PARTIAL
        return Entitlement.NONE if contract.sec_type == "OPT" else Entitlement.DELAYED


def parse_subscriptions(text: str) -> Subscriptions:
    """Read the option.

    Raises: ConfigError for a name that is neither a security type nor an exchange that is listed.
    """
    if text.strip().lower() == ALL:
        return Subscriptions()
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name.removesuffix("~") not in _NAMES:
            raise ConfigError(
                f"The subscription {name!r} is unknown: use all, or security types and exchanges such as STK,FUT,LSE; "
                "a ~ behind a name subscribes in part.",
                code="unknown_subscription",
            )
    return Subscriptions(
        frozenset(name for name in names if not name.endswith("~")),
        frozenset(name.removesuffix("~") for name in names if name.endswith("~")),
    )
