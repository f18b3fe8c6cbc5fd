"""Every write to order rows after the intent, as the engine's batch calls them (inside its transaction).

Owns: nothing but the names. Leaves: recording what IB says (``recording``), settling after a reconnect (``recovery``),
owners (``owners``), intents (``intents``).
"""

from trading.orders.recording import (
    note_orders,
    open_batch,
    owner_of,
    owner_of_ref,
    owners,
    owners_of_batch,
    record_executions,
    record_order,
    record_orders,
    record_status,
    record_statuses,
)
from trading.orders.recovery import resolve_unconfirmed
from trading.orders.settling import settle

__all__ = [
    "note_orders",
    "open_batch",
    "owner_of",
    "owner_of_ref",
    "owners",
    "owners_of_batch",
    "record_executions",
    "record_order",
    "record_orders",
    "record_status",
    "record_statuses",
    "resolve_unconfirmed",
    "settle",
]
