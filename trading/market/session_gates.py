"""What bounds the signals of a session's strategy: its own parameters and the session's, the tighter of the two. Pure.

Leaves: what a bound does to a signal (``signal_rules``), the account's limits, which hold beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from trading.market.session_parts import TradingConfig
from trading.market.signal_rules import Gates, gates_of

BOUNDS = ("max_buying_power", "max_per_trade", "max_per_symbol", "max_open_positions")


def session_gates(config: Mapping[str, Any], trading: TradingConfig, *, allow_short: bool) -> Gates:
    """Return the gates of one strategy; ``config`` are its parameters, ``allow_short`` what the session permits.

    >>> gates = session_gates({"max_per_trade": 500.5}, TradingConfig(), allow_short=False)
    >>> gates.max_per_trade, gates.max_open_positions
    (Decimal('500.5'), 10)

    Raises: ConfigError (bad_gates).
    """
    session = trading.model_dump()
    tightest = {name: _smaller(session[name], config.get(name)) for name in BOUNDS}
    return gates_of(config, allow_short=allow_short, trading=tightest)


def _smaller(bound: Any, own: Any) -> Any:
    if own is None:
        return bound
    try:
        return min(bound, Decimal(str(own)))
    except ArithmeticError:
        return own  # for gates_of to refuse by name
