"""The account, what is traded in it, and IB's own figures about it."""

from __future__ import annotations

from decimal import Decimal

from django.db import models

from portfolio.fields import ExactDecimalField


class Account(models.Model):
    """One IB account. Identity: its id. Lifetime: for ever once opened."""

    account_id = models.CharField(max_length=32, primary_key=True, help_text="IB's id, for example DU1000001.")
    base_currency = models.CharField(max_length=3, blank=True, help_text="From IB; empty until known, never guessed.")
    opened_at = models.DateTimeField(
        null=True, help_text="When opening balances were booked, UTC; null until then and nothing trades."
    )
    positions_at = models.DateTimeField(
        null=True, help_text="When IB last gave a complete answer about positions, UTC; see BrokerHolding."
    )
    reconciled_at = models.DateTimeField(null=True, help_text="When the last complete check of the books ended, UTC.")
    rebalance_cron = models.CharField(
        max_length=64, blank=True, help_text="Cron expression, UTC, of rebalancing all strategies; empty: only by hand."
    )
    benchmark = models.CharField(
        max_length=64, blank=True, help_text="Symbol in the library market_data that returns are measured against."
    )

    def __str__(self) -> str:
        return self.account_id


class Instrument(models.Model):
    """One IB contract. Identity: conId, never the ticker. Lifetime: for ever."""

    con_id = models.BigIntegerField(primary_key=True, help_text="IB's contract id.")
    symbol = models.CharField(max_length=32, help_text="Ticker; not unique.")
    sec_type = models.CharField(max_length=8, help_text="STK, OPT, FUT, CASH, IND, …")
    exchange = models.CharField(max_length=32, blank=True, help_text="Routing exchange as last seen.")
    primary_exchange = models.CharField(max_length=32, blank=True, help_text="Listing exchange.")
    currency = models.CharField(max_length=3, help_text="Trading currency.")
    local_symbol = models.CharField(max_length=64, blank=True, help_text="Exchange's own symbol.")
    trading_class = models.CharField(max_length=32, blank=True, help_text="IB's trading class.")
    multiplier = ExactDecimalField(
        max_digits=28, decimal_places=10, default=Decimal(1), help_text="Units of currency per point."
    )
    price_magnifier = models.PositiveIntegerField(
        null=True, help_text="Quoted prices divided by it are money: 100 where pence are quoted; null until IB said it."
    )
    expiry = models.CharField(max_length=8, blank=True, help_text="yyyymmdd or empty.")
    strike = ExactDecimalField(max_digits=28, decimal_places=10, null=True, help_text="Options only.")
    right = models.CharField(max_length=1, blank=True, help_text="C, P or empty.")

    class Meta:
        indexes = [models.Index(fields=["symbol", "sec_type"])]

    def __str__(self) -> str:
        return self.local_symbol or self.symbol


class FormerTicker(models.Model):
    """A ticker that a contract had before it was renamed, so that history keeps the name of its time.

    Identity: contract and last movement. Immutable. Writer: who refreshes the instrument.
    """

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, help_text="The contract.")
    symbol = models.CharField(max_length=32, help_text="What it was called.")
    last_movement = models.BigIntegerField(help_text="Id of the last movement of the ledger under this name.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["instrument", "last_movement"], name="former_ticker_identity")]

    def __str__(self) -> str:
        return f"{self.symbol}≤{self.last_movement}"


class AccountValue(models.Model):
    """IB's own account figures, keyed by tag and currency (BASE rows never overwrite currency rows)."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, help_text="Account.")
    tag = models.CharField(max_length=64, help_text="IB's key, for example NetLiquidation.")
    currency = models.CharField(max_length=8, blank=True, help_text="ISO code, BASE or empty.")
    value = models.CharField(max_length=64, help_text="As IB sent it.")
    updated_at = models.DateTimeField(help_text="UTC.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "tag", "currency"], name="account_value_identity")]

    def __str__(self) -> str:
        return f"{self.tag}={self.value}"
