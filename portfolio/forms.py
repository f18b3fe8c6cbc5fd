"""Forms over the books: what an operator may set on the account.

Owns: the check of a schedule before it is stored. Leaves: who may (the admin), when it runs (``trading.engine``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import forms
from django.core.exceptions import ValidationError

from portfolio.cron import check_cron
from portfolio.models import Account
from strategies.exceptions import ConfigError

if TYPE_CHECKING:
    _AccountForm = forms.ModelForm[Account]
else:
    _AccountForm = forms.ModelForm


class AccountForm(_AccountForm):
    """The account's schedule of rebalancing and its benchmark; both may be empty."""

    class Meta:
        model = Account
        fields = ("rebalance_cron", "benchmark")

    def clean_rebalance_cron(self) -> str:
        """Refuse what is no cron expression: it would fail where nobody looks."""
        text: str = self.cleaned_data["rebalance_cron"]
        try:
            return check_cron(text) if text.strip() else ""
        except ConfigError as error:
            raise ValidationError(error.message, code=error.code) from error
