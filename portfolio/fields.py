"""Exact decimals in every database.

Owns: how money and quantities are stored. SQLite has no decimal type: its NUMERIC affinity turns a value into a double
and Django reads it back with 15 digits, so that a cash balance of a million with ten decimals would not survive. On
SQLite these columns are therefore text with a fixed number of decimals; elsewhere they are NUMERIC.
Rule: compare for equality in SQL, sort and sum in Python: text sorts as text.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    _DecimalField = models.DecimalField[Any, Any]
else:
    _DecimalField = models.DecimalField


class ExactDecimalField(_DecimalField):
    """A decimal that every database gives back digit for digit."""

    def get_internal_type(self) -> str:
        """Name a type unknown to the backends, so that SQLite's float converter stays away."""
        return "ExactDecimalField"

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        """Return ``text`` on SQLite and NUMERIC elsewhere."""
        if connection.vendor == "sqlite":
            return "text"
        return f"numeric({self.max_digits}, {self.decimal_places})"

    def from_db_value(self, value: object, expression: object, connection: object) -> Decimal | None:
        """Read text, or the float of an SQL aggregate, as Decimal."""
        if value is None or isinstance(value, Decimal):
            return value
        return Decimal(str(value))
