"""Exact decimals in every database.

Owns: how money and quantities are stored. SQLite has no decimal type: its NUMERIC affinity turns a value into a double
and Django reads it back with 15 digits, so that a cash balance of a million with ten decimals would not survive. On
SQLite these columns are therefore text with a fixed number of decimals; elsewhere they are NUMERIC.
Rule: compare for equality in SQL, sort and sum in Python: text sorts as text.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from django.db import models

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

Set = TypeVar("Set", contravariant=True)
Get = TypeVar("Get", covariant=True)

if TYPE_CHECKING:

    class _DecimalField(models.DecimalField[Set, Get]):
        """Generic for the type checker only: Django's fields take no parameters at run time."""
else:

    class _DecimalField(models.DecimalField):
        def __class_getitem__(cls, _: object) -> type:
            return cls


class ExactDecimalField(_DecimalField[Set, Get]):
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
