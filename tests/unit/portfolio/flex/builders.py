"""Flex statements for tests, written row by row in IB's spelling."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from xml.sax.saxutils import quoteattr
from zoneinfo import ZoneInfo

from strategies.events import FillSnapshot
from tests.unit.portfolio.builders import ACCOUNT

SECTIONS = {
    "Trades": "Trade",
    "CashTransactions": "CashTransaction",
    "CorporateActions": "CorporateAction",
    "OptionEAE": "OptionEAE",
    "OpenPositions": "OpenPosition",
    "CashReport": "CashReportCurrency",
    "ChangeInDividendAccruals": "ChangeInDividendAccrual",
}
Row = dict[str, str]


def ny(moment: datetime) -> str:
    """A time as the statement writes it."""
    return moment.astimezone(ZoneInfo("America/New_York")).strftime("%Y%m%d;%H%M%S")


def element(tag: str, row: Row) -> str:
    """One element with its attributes."""
    return f"<{tag} " + " ".join(f"{name}={quoteattr(value)}" for name, value in row.items()) + " />"


@dataclass
class Sheet:
    """One statement under construction."""

    first: str = "20260302"
    last: str = "20260302"
    account: str = ACCOUNT
    rows: dict[str, list[Row]] = field(default_factory=dict)
    extra: str = ""

    def add(self, section: str, **row: str) -> Sheet:
        """Add a row; it carries account and currency unless told otherwise."""
        self.rows.setdefault(section, []).append({"accountId": self.account, "currency": "USD", **row})
        return self

    def trade(self, fill: FillSnapshot, commission: str | None = None, **changes: str) -> Sheet:
        """Add an execution as IB would tell it a day later."""
        sign = "" if fill.side == "BOT" else "-"
        values = {
            "assetCategory": fill.contract.sec_type,
            "symbol": fill.contract.symbol,
            "conid": str(fill.contract.con_id),
            "multiplier": f"{fill.contract.multiplier:f}",
            "listingExchange": "NASDAQ",
            "tradeID": f"9{fill.order_id}",
            "transactionID": f"8{fill.order_id}",
            "ibExecID": fill.exec_id,
            "ibOrderID": str(fill.perm_id),
            "transactionType": "ExchTrade",
            "dateTime": ny(fill.executed_at),
            "buySell": "BUY" if fill.side == "BOT" else "SELL",
            "quantity": f"{sign}{fill.quantity:f}",
            "tradePrice": f"{fill.price:f}",
            "ibCommission": commission if commission is not None else f"{-(fill.commission or 0):f}",
            "ibCommissionCurrency": fill.commission_currency or "USD",
            "taxes": "0",
            "orderReference": fill.order_ref,
            "exchange": fill.exchange,
            "notes": "P;O",
            "levelOfDetail": "EXECUTION",
            "fifoPnlRealized": "0",
        }
        return self.add("Trades", **{**values, **changes})

    def cash(self, number: int, kind: str, amount: str, **changes: str) -> Sheet:
        """Add a cash transaction at 20:20 of the statement's last day."""
        values = {
            "transactionID": str(number),
            "type": kind,
            "amount": amount,
            "dateTime": f"{self.last};202000",
            "reportDate": self.last,
            "levelOfDetail": "DETAIL",
        }
        return self.add("CashTransactions", **{**values, **changes})

    def holding(self, con_id: int, symbol: str, quantity: str, **changes: str) -> Sheet:
        """Add an open position."""
        values = {"assetCategory": "STK", "conid": str(con_id), "symbol": symbol, "multiplier": "1"}
        return self.add(
            "OpenPositions",
            **{**values, "position": quantity, "markPrice": "50", "levelOfDetail": "SUMMARY", **changes},
        )

    def ending(self, currency: str, amount: str) -> Sheet:
        """Add a currency's cash at the end."""
        return self.add("CashReport", currency=currency, endingCash=amount)

    @property
    def xml(self) -> str:
        """The statement's element."""
        body = "".join(
            f"<{section}>" + "".join(element(SECTIONS[section], row) for row in rows) + f"</{section}>"
            for section, rows in self.rows.items()
        )
        head = f'accountId="{self.account}" fromDate="{self.first}" toDate="{self.last}" period="LastBusinessDay"'
        return f'<FlexStatement {head} whenGenerated="20260303;030405">{body}{self.extra}</FlexStatement>'


def flex(*sheets: Sheet) -> bytes:
    """A file of these statements."""
    body = "".join(sheet.xml for sheet in sheets)
    return (
        f'<FlexQueryResponse queryName="Daily" type="AF"><FlexStatements count="{len(sheets)}">{body}'
        "</FlexStatements></FlexQueryResponse>"
    ).encode()


AT = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)  # the morning after
