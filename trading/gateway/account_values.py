"""The paper account in IB's words: account values, summary tags, position rows.

Owns: keys, currencies and number texts of reqAccountUpdates and reqAccountSummary.
Leaves: the figures (``account``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from trading.gateway.account import INITIAL_MARGIN, Account, Figures, MarkOf, RateOf
from trading.gateway.model import AccountRow, PositionRow

ZERO = Decimal(0)
_CENT = Decimal("0.01")
# Keys that IB always sends and that a paper account without such products holds at zero.
_UNUSED = (
    "AccruedCash",
    "AccruedDividend",
    "Billable",
    "CorporateBondValue",
    "FundValue",
    "FutureOptionValue",
    "MoneyMarketFundValue",
    "MutualFundValue",
    "NetDividend",
    "TBillValue",
    "TBondValue",
    "WarrantValue",
)


def totals(account: Account, figures: Figures) -> dict[str, tuple[str, str]]:
    """Account-wide values by key: text and currency."""
    liquidation = figures.net_liquidation
    money = {
        "NetLiquidation": liquidation,
        "TotalCashValue": figures.total_cash,
        "SettledCash": figures.total_cash,
        "EquityWithLoanValue": liquidation,
        "PreviousDayEquityWithLoanValue": account.day_start_equity or liquidation,
        "GrossPositionValue": figures.gross_positions,
        "RegTEquity": liquidation,
        "RegTMargin": figures.initial_margin,
        "SMA": figures.available,
        "BuyingPower": max(figures.available, ZERO) / INITIAL_MARGIN,
        "AccruedCash": ZERO,
    }
    margins = {
        "InitMarginReq": figures.initial_margin,
        "MaintMarginReq": figures.maintenance_margin,
        "AvailableFunds": figures.available,
        "ExcessLiquidity": figures.excess,
    }
    for prefix in ("", "Full", "LookAhead"):
        money.update({prefix + key: value for key, value in margins.items()})
    rows = {key: (_text(value), account.currency) for key, value in money.items()}
    cushion = figures.excess / liquidation if liquidation > 0 else ZERO
    leverage = figures.gross_positions / liquidation if liquidation > 0 else ZERO
    rows.update(
        {
            "AccountType": ("INDIVIDUAL", ""),
            "Cushion": (f"{cushion:.6f}", ""),
            "Leverage": (_text(leverage), ""),
            "DayTradesRemaining": ("-1", ""),
            "HighestSeverity": ("0", ""),
            "LookAheadNextChange": ("0", ""),
        }
    )
    return rows


def account_values(account: Account, figures: Figures, mark_of: MarkOf, rate_of: RateOf) -> list[AccountRow]:
    """Every row of an account update: totals, then one block for each currency and BASE."""
    rows = [
        AccountRow("AccountCode", account.account_id, ""),
        AccountRow("AccountReady", "true", ""),
        AccountRow("TradingType-S", "STKNOPT", ""),
    ]
    rows.extend(AccountRow(key, text, currency) for key, (text, currency) in totals(account, figures).items())
    rows.extend(_block("BASE", figures.total_cash, figures, Decimal(1)))
    for currency in currencies(account):
        local = _local(account, currency, mark_of)
        rows.extend(_block(currency, local.total_cash, local, rate_of(currency)))
    return rows


def currencies(account: Account) -> list[str]:
    """Currencies with a balance or a position, the account's own always."""
    seen = {account.currency, *(c for c, amount in account.cash.items() if amount)}
    seen.update(h.contract.currency for h in account.holdings.values())
    return sorted(seen)


def account_summary(
    account: Account, figures: Figures, mark_of: MarkOf, rate_of: RateOf, tags: Sequence[str]
) -> list[AccountRow]:
    """Rows of the tags asked for, in IB's way: unknown tags are left out, ``$LEDGER`` gives cash by currency."""
    known = totals(account, figures)
    rows: list[AccountRow] = []
    for tag in _expand(tags, known):
        if tag.startswith("$LEDGER"):
            rows.extend(_ledger(account, figures, mark_of, rate_of, tag))
        elif tag in known:
            text, currency = known[tag]
            rows.append(AccountRow(tag, text, currency))
    return rows


def _expand(tags: Sequence[str], known: Iterable[str]) -> Iterable[str]:
    for tag in tags:
        if tag in ("All", "AllTags"):
            yield from sorted(known)
        else:
            yield tag


def _ledger(account: Account, figures: Figures, mark_of: MarkOf, rate_of: RateOf, tag: str) -> list[AccountRow]:
    wanted = tag.partition(":")[2] or "BASE"
    chosen = currencies(account) if wanted == "ALL" else [c for c in currencies(account) if c == wanted]
    rows: list[AccountRow] = []
    if wanted in ("ALL", "BASE"):
        rows += [
            AccountRow("CashBalance", _text(figures.total_cash), "BASE"),
            AccountRow("ExchangeRate", "1.00", "BASE"),
        ]
    for currency in chosen:
        rows.append(AccountRow("CashBalance", _text(_local(account, currency, mark_of).total_cash), currency))
        rows.append(AccountRow("ExchangeRate", f"{rate_of(currency):.7f}", currency))
    return rows


def position_rows(account: Account, mark_of: MarkOf) -> list[PositionRow]:
    """Held positions, and those closed today with their realised profit."""
    rows: list[PositionRow] = []
    for holding in account.holdings.values():
        mark = mark_of(holding.contract.con_id)
        value = account.value(holding, mark)
        rows.append(
            PositionRow(
                account=account.account_id,
                contract=holding.contract,
                quantity=holding.quantity,
                average_cost=holding.average_cost,
                market_price=mark,
                market_value=value,
                unrealized_pnl=value - holding.quantity * holding.average_cost,
                realized_pnl=holding.realized,
            )
        )
    return rows


def _local(account: Account, currency: str, mark_of: MarkOf) -> Figures:
    """Figures of one currency's holdings, in that currency."""
    part = Account(
        account.account_id,
        currency,
        cash={currency: account.cash.get(currency, ZERO)},
        holdings={k: h for k, h in account.holdings.items() if h.contract.currency == currency},
        magnifiers=account.magnifiers,
    )
    return part.figures(mark_of, lambda _: Decimal(1))


def _block(currency: str, cash: Decimal, figures: Figures, rate: Decimal) -> list[AccountRow]:
    values = {
        "Currency": currency,
        "CashBalance": _text(cash),
        "TotalCashBalance": _text(cash),
        "StockMarketValue": _text(figures.stock_value),
        "OptionMarketValue": _text(figures.option_value),
        "FuturesPNL": _text(figures.futures_gain),
        "NetLiquidationByCurrency": _text(cash + figures.stock_value + figures.option_value),
        "UnrealizedPnL": _text(figures.unrealized),
        "RealizedPnL": _text(figures.realized),
        "ExchangeRate": f"{rate:.7f}",
        **dict.fromkeys(_UNUSED, "0.00"),
    }
    return [AccountRow(key, text, currency) for key, text in values.items()]


def _text(value: Decimal) -> str:
    return format(value.quantize(_CENT), "f")
