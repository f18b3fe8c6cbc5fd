"""Signals of this app; sent after commit, so that a receiver finds what it is told about."""

from django.dispatch import Signal

strategy_saved = Signal()
"""A strategy row was written. Arguments: ``strategy`` (Strategy), ``created`` (bool)."""

strategy_deleted = Signal()
"""A strategy row was deleted. Argument: ``symbol``."""
