"""Every error that MATS raises on purpose, sorted by what the caller should do about it.

Rule: the class says the remedy (stop, retry, tell the strategy, halt that strategy, freeze trading); ``code`` names
the case for machines, ``fields`` carry the values, the message is one sentence for a person.
"""

from __future__ import annotations

from typing import Any


class MatsError(Exception):
    """Base of all; ``code`` is stable snake_case, ``fields`` are JSON-able values."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.fields = fields


class ConfigError(MatsError):
    """Settings, files or parameters are unusable: stop, and say what to change."""

    code = "config_error"


class NotFoundError(MatsError):
    """The named thing does not exist."""

    code = "not_found"


class ConflictError(MatsError):
    """The request contradicts the present state (already running, being stopped, held by another)."""

    code = "conflict"


class TransientError(MatsError):
    """The same call may succeed later: retry with backoff."""

    code = "transient"


class OrderRefusedError(MatsError):
    """An order was not, or will not be, worked: tell the strategy."""

    code = "order_refused"


class OrderDeniedError(OrderRefusedError):
    """MATS refused the order before it was sent."""

    code = "order_denied"


class OrderRejectedError(OrderRefusedError):
    """The broker refused the order."""

    code = "order_rejected"


class StrategyError(MatsError):
    """The strategy's own code or file is at fault: halt that strategy alone."""

    code = "strategy_error"


class LoadError(StrategyError):
    """A strategy file cannot be loaded; the message names file and reason."""

    code = "load_error"


class LedgerError(MatsError):
    """The books cannot be trusted: freeze trading."""

    code = "ledger_error"


class StaleEpochError(LedgerError):
    """A writer that no longer holds the engine lease tried to write."""

    code = "stale_epoch"
