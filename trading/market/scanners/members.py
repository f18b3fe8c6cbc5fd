"""Who belongs to a scanner's universe: symbols as they are written, and those of universes such as ``univ/sp500``.

Owns: putting both together, the most that one scanner may look at. Leaves: storing universes (``market.universe``).
"""

from __future__ import annotations

from collections.abc import Sequence

from strategies.exceptions import ConfigError, NotFoundError
from trading.market.scanners.base import MAX_UNIVERSE


def members_of(names: Sequence[str]) -> list[str]:
    """Return the symbols, each once; a name with a slash is a stored universe, read now.

    Raises: NotFoundError (unknown_universe); ConfigError (no_universe, too_many_symbols).
    """
    found = dict.fromkeys(symbol for name in names for symbol in (_stored(name) if "/" in name else [name]))
    if len(found) > MAX_UNIVERSE:
        raise ConfigError(
            f"A scanner looks at {MAX_UNIVERSE:,} symbols at most, not at {len(found):,}.", code="too_many_symbols"
        )
    return list(found)


def _stored(name: str) -> list[str]:
    from portfolio.arctic.client import get_ac  # the research store takes a second to import
    from strategies.data import resolve_universe

    found = resolve_universe(get_ac(), name)
    if found == [name]:  # there is no such library
        raise NotFoundError(f"ArcticDB has no universe {name}.", code="unknown_universe")
    return found
