"""The books in the admin: to look at, never to change.

Owns: read-only lists. Rule: rows come from the broker or from a fold; a wrong figure is corrected by a movement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db import transaction
from django.db.models import Model
from django.forms import ModelForm
from django.http import HttpRequest

from portfolio.cron import CHANGED
from portfolio.forms import AccountForm
from portfolio.ledger.money import plain
from portfolio.models import (
    Account,
    AccountValue,
    Adjustment,
    Break,
    CashBalance,
    EquitySnapshot,
    Execution,
    FlexFinding,
    FlexStatement,
    FormerTicker,
    FxRate,
    HourlySnapshot,
    Instrument,
    Movement,
    ParkedReport,
    PendingCommission,
    Position,
    ProjectionCursor,
)
from strategies.audit import record

if TYPE_CHECKING:
    from decimal import Decimal

    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin


def _number(value: Decimal | None) -> str:
    return "unknown" if value is None else plain(value)


class ReadOnlyAdmin(_ModelAdmin):
    """A list and a detail page without a single button that writes."""

    list_per_page = 50
    show_full_result_count = False  # counting millions of rows for a heading is not worth it
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nothing is entered by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nothing is edited."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nothing is deleted, nor together with something else."""
        return False


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    """Accounts, when their books were opened, and the two things an operator sets: schedule and benchmark."""

    list_display = ["account_id", "base_currency", "opened_at", "reconciled_at", "rebalance_cron", "benchmark"]
    form = AccountForm
    readonly_fields = ["account_id", "base_currency", "opened_at", "positions_at", "reconciled_at"]

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Schedule and benchmark may be set by who may operate; nobody has a right to edit the books' own tables."""
        return request.user.has_perm("trading.operate")

    def save_model(self, request: HttpRequest, obj: Account, form: ModelForm[Account], change: bool) -> None:
        """Store what was set, each with its entry in the audit trail."""
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            for name in form.changed_data:
                record(
                    CHANGED if name == "rebalance_cron" else f"account.{name}",
                    obj.account_id,
                    actor=request.user.get_username(),
                    source="admin",
                    before={name: form.initial.get(name, "")},
                    after={name: getattr(obj, name)},
                )


@admin.register(Instrument)
class InstrumentAdmin(ReadOnlyAdmin):
    """Contracts by id."""

    list_display = ["con_id", "symbol", "local_symbol", "sec_type", "currency", "exchange", "primary_exchange"]
    list_filter = ["sec_type", "currency"]
    search_fields = ["=con_id", "symbol", "local_symbol"]


@admin.register(FormerTicker)
class FormerTickerAdmin(ReadOnlyAdmin):
    """Tickers that contracts had before they were renamed."""

    list_display = ["instrument", "symbol", "last_movement"]
    list_select_related = ["instrument"]
    search_fields = ["symbol", "=instrument__con_id"]


@admin.register(Execution)
class ExecutionAdmin(ReadOnlyAdmin):
    """What IB reported."""

    list_display = [
        "executed_at",
        "owner",
        "instrument",
        "side",
        "shown_quantity",
        "shown_price",
        "shown_commission",
        "order_ref",
        "exec_id",
        "superseded",
    ]
    list_select_related = ["instrument"]
    list_filter = ["owner", "side", "superseded", "executed_at"]
    search_fields = ["exec_id", "order_ref", "=perm_id", "instrument__symbol"]
    ordering = ["-id"]

    @admin.display(description="quantity")
    def shown_quantity(self, row: Execution) -> str:
        """The signed quantity."""
        return _number(row.quantity)

    @admin.display(description="price")
    def shown_price(self, row: Execution) -> str:
        """The price per unit."""
        return _number(row.price)

    @admin.display(description="commission")
    def shown_commission(self, row: Execution) -> str:
        """The fee with its currency."""
        return f"{_number(row.commission)} {row.commission_currency}".strip()


@admin.register(Movement)
class MovementAdmin(ReadOnlyAdmin):
    """The journal."""

    list_display = [
        "id",
        "booked_at",
        "owner",
        "kind",
        "instrument",
        "shown_quantity",
        "shown_cash",
        "shown_realized",
        "shown_balance",
        "key",
    ]
    list_select_related = ["instrument"]
    list_filter = ["kind", "owner", "currency"]
    search_fields = ["key", "instrument__symbol"]
    ordering = ["-id"]

    @admin.display(description="quantity")
    def shown_quantity(self, row: Movement) -> str:
        """The change of the position."""
        return _number(row.quantity)

    @admin.display(description="cash")
    def shown_cash(self, row: Movement) -> str:
        """The change of cash."""
        return f"{_number(row.cash)} {row.currency}"

    @admin.display(description="realised")
    def shown_realized(self, row: Movement) -> str:
        """What it realised."""
        return _number(row.realized_pnl)

    @admin.display(description="cash after")
    def shown_balance(self, row: Movement) -> str:
        """The balance after it."""
        return _number(row.cash_after)


@admin.register(Position)
class PositionAdmin(ReadOnlyAdmin):
    """Who holds what."""

    list_display = ["owner", "instrument", "shown_quantity", "shown_average", "shown_realized", "updated_at"]
    list_select_related = ["instrument"]
    list_filter = ["owner", "account"]
    search_fields = ["instrument__symbol", "=instrument__con_id"]
    ordering = ["owner", "instrument__symbol"]

    @admin.display(description="quantity")
    def shown_quantity(self, row: Position) -> str:
        """The signed quantity."""
        return _number(row.quantity)

    @admin.display(description="average cost")
    def shown_average(self, row: Position) -> str:
        """The average price."""
        return _number(row.average_cost)

    @admin.display(description="realised P&L")
    def shown_realized(self, row: Position) -> str:
        """Cumulative, net of fees."""
        return f"{_number(row.realized_pnl)} {row.instrument.currency}"


@admin.register(CashBalance)
class CashBalanceAdmin(ReadOnlyAdmin):
    """Who has how much cash."""

    list_display = ["owner", "currency", "shown_amount", "account", "updated_at"]
    list_select_related = ["account"]
    list_filter = ["owner", "currency"]
    ordering = ["owner", "currency"]

    @admin.display(description="amount")
    def shown_amount(self, row: CashBalance) -> str:
        """The signed balance."""
        return _number(row.amount)


@admin.register(Break)
class BreakAdmin(ReadOnlyAdmin):
    """Differences between IB's positions and ours."""

    list_display = ["instrument", "state", "shown_ib", "shown_ledger", "opened_at", "cleared_at"]
    list_select_related = ["instrument"]
    list_filter = ["state"]
    search_fields = ["instrument__symbol"]
    ordering = ["-id"]

    @admin.display(description="IB holds")
    def shown_ib(self, row: Break) -> str:
        """IB's quantity."""
        return _number(row.ib_quantity)

    @admin.display(description="ledger holds")
    def shown_ledger(self, row: Break) -> str:
        """Σ owners."""
        return _number(row.ledger_quantity)


@admin.register(EquitySnapshot)
class EquitySnapshotAdmin(ReadOnlyAdmin):
    """Equity over time."""

    list_display = ["taken_at", "owner", "shown_equity", "account"]
    list_select_related = ["account"]
    list_filter = ["owner", "taken_at"]
    ordering = ["-id"]

    @admin.display(description="equity")
    def shown_equity(self, row: EquitySnapshot) -> str:
        """Equity with its currency."""
        return f"{_number(row.equity)} {row.currency}"


@admin.register(AccountValue)
class AccountValueAdmin(ReadOnlyAdmin):
    """IB's own figures."""

    list_display = ["tag", "currency", "value", "account", "updated_at"]
    list_select_related = ["account"]
    list_filter = ["currency", "account"]
    search_fields = ["tag"]
    ordering = ["tag", "currency"]


@admin.register(PendingCommission)
class PendingCommissionAdmin(ReadOnlyAdmin):
    """Fees whose execution has not come."""

    list_display = ["exec_id", "amount", "currency", "received_at"]


@admin.register(ProjectionCursor)
class ProjectionCursorAdmin(ReadOnlyAdmin):
    """How far ArcticDB reflects the ledger."""

    list_display = ["symbol", "last_seq", "updated_at"]
    search_fields = ["symbol"]


@admin.register(FlexStatement)
class FlexStatementAdmin(ReadOnlyAdmin):
    """Statements of IB that were read."""

    list_display = ["from_date", "to_date", "account", "query_name", "imported_at", "actor", "sha256"]
    list_select_related = ["account"]
    list_filter = ["account"]
    search_fields = ["sha256"]
    ordering = ["-id"]


@admin.register(FlexFinding)
class FlexFindingAdmin(ReadOnlyAdmin):
    """What statements said that the books did not."""

    list_display = ["statement", "kind", "key", "state", "text", "resolution"]
    list_select_related = ["statement"]
    list_filter = ["state", "kind"]
    search_fields = ["key", "text"]
    ordering = ["-id"]


@admin.register(Adjustment)
class AdjustmentAdmin(ReadOnlyAdmin):
    """Events that are no fills."""

    list_display = ["id", "effective_at", "kind", "state", "instrument", "details", "actor", "reason", "key"]
    list_select_related = ["instrument"]
    list_filter = ["state", "kind", "source", "effective_at"]
    search_fields = ["key", "reason", "actor", "instrument__symbol"]
    ordering = ["-id"]


@admin.register(ParkedReport)
class ParkedReportAdmin(ReadOnlyAdmin):
    """Reports of the broker that could not be booked as they came."""

    list_display = ["key", "state", "code", "reason", "con_id", "times", "parked_at", "last_at", "settled_by"]
    list_filter = ["state", "code"]
    search_fields = ["key", "reason", "=con_id"]
    ordering = ["-id"]


@admin.register(FxRate)
class FxRateAdmin(ReadOnlyAdmin):
    """Exchange rates as they were recorded."""

    list_display = ["at", "currency", "base", "shown_worth", "source"]
    list_filter = ["currency", "base", "source", "at"]
    ordering = ["-id"]

    @admin.display(description="worth in base")
    def shown_worth(self, row: FxRate) -> str:
        """Base units for one unit."""
        return _number(row.worth)


@admin.register(HourlySnapshot)
class HourlySnapshotAdmin(ReadOnlyAdmin):
    """The books at the top of each hour."""

    list_display = ["hour", "owner", "shown_equity", "shown_cash", "taken_at", "last_movement"]
    list_filter = ["owner", "hour"]
    ordering = ["-id"]

    @admin.display(description="equity")
    def shown_equity(self, row: HourlySnapshot) -> str:
        """Equity with its currency."""
        return f"{_number(row.equity)} {row.currency}"

    @admin.display(description="cash")
    def shown_cash(self, row: HourlySnapshot) -> str:
        """Cash in the same currency."""
        return _number(row.cash)
