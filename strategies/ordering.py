"""One turn at a time for writers of tables whose ids must become visible in order: events and the audit trail.

Owns: the advisory lock on PostgreSQL, which hands out sequence numbers before commit. SQLite needs none: its
transactions are IMMEDIATE and therefore ordered already.
Rule: one lock for all such tables, so that two writers that touch several of them cannot wait for each other.
"""

from __future__ import annotations

from django.db import connection

# Any number serves; it only has to be the same for every such writer.
_LOCK = 0x4D415453


def take_turn() -> None:
    """Wait until every earlier writer committed; inside a transaction, which gives the turn back when it ends."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
