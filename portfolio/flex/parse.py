"""Read a Flex file: bytes in, statements out. Pure: no database, no files, no network.

Owns: what is refused as a whole (size, entities, another format, another account) and what is one bad row. Leaves: what
the rows mean (``match``, ``events``). Rule: unknown sections and attributes are passed over and counted; a number or
date that cannot be read makes its row a finding, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date
from decimal import Decimal
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from portfolio.flex.fields import Row, RowError
from portfolio.flex.rows import (
    AccrualRow,
    BadRow,
    CashRow,
    ContractRow,
    CorporateRow,
    FlexFile,
    OpenRow,
    OptionRow,
    Statement,
    TradeRow,
)
from strategies.exceptions import ConfigError

LARGEST_FILE = 64 * 1024 * 1024
_SUMMARY = "BASE_SUMMARY"
_NO_ACCOUNT = {"", "-"}

Reader = Callable[[Row, Statement], None]


def parse_flex(data: bytes, account_id: str) -> FlexFile:
    """Read a file that must be of one account.

    Raises: ConfigError naming what it is instead: flex_too_large, flex_empty, flex_csv, flex_html, flex_not_xml,
    flex_unsafe, flex_error_response, flex_not_statement, flex_bad_statement, flex_other_account.
    """
    root = read_xml(data)
    if root.tag == "FlexStatementResponse":
        code, text = response_error(root)
        raise _refuse("flex_error_response", f"This is IB's error answer, no statement: {code} {text}".strip() + ".")
    if root.tag != "FlexQueryResponse":
        raise _refuse(
            "flex_not_statement", f"The file's root is <{root.tag[:60]}>, a Flex query begins <FlexQueryResponse>."
        )
    if root.get("type", "AF") not in {"AF", ""}:
        raise _refuse(
            "flex_not_statement",
            f"This is a Flex query of type {root.get('type', '')[:10]}; make an Activity Flex query (type AF).",
        )
    found = root.findall("FlexStatements/FlexStatement")
    if not found:
        raise _refuse("flex_not_statement", "The file holds no statement; choose another period in the Flex query.")
    _check_accounts(found, account_id)
    name = root.get("queryName", "")[:80]
    return FlexFile(name, account_id, tuple(_statement(one, account_id) for one in found))


def read_xml(data: bytes) -> Element:
    """Return the root of IB's XML.

    Raises: ConfigError when the bytes are too many, no XML, or XML with a document type or entities.
    """
    if len(data) > LARGEST_FILE:
        raise _refuse("flex_too_large", f"The file has {len(data):,} bytes, {LARGEST_FILE:,} are allowed.")
    head = data[:2048].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head:
        raise _refuse("flex_empty", "The file is empty.")
    if head.startswith((b"<!doctype html", b"<html")):
        raise _refuse("flex_html", "This is a web page, no statement: the login or an error page was saved instead.")
    if not head.startswith(b"<"):
        looks_csv = b"," in head and b"\x00" not in head
        hint = "This looks like CSV" if looks_csv else "This is no XML"
        raise _refuse(
            "flex_csv" if looks_csv else "flex_not_xml", f"{hint}; set the Flex query's format to XML and run it again."
        )
    try:
        root: Element = fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        raise _refuse("flex_unsafe", "The file declares a document type or entities; IB's never do.") from error
    except (ParseError, LookupError, ValueError) as error:
        raise _refuse("flex_not_xml", f"The file is no complete XML ({error}); download it again.") from error
    return root


def response_error(root: Element) -> tuple[str, str]:
    """Return code and text of a FlexStatementResponse."""
    return (root.findtext("ErrorCode") or "").strip()[:10], (root.findtext("ErrorMessage") or "").strip()[:200]


def _refuse(code: str, text: str) -> ConfigError:
    return ConfigError(text, code=code)


def _check_accounts(statements: list[Element], account_id: str) -> None:
    """Refuse the whole file when anything in it is of another account."""
    for statement in statements:
        said = {statement.get("accountId", "").strip()}
        if not said - _NO_ACCOUNT:
            raise _refuse("flex_bad_statement", "A statement in the file names no account.")
        said |= {row.get("accountId", "").strip() for row in statement.iter() if row is not statement}
        other = sorted(said - _NO_ACCOUNT - {account_id})
        if other:
            raise ConfigError(
                f"The statement is of account {other[0][:32]}, the books are of {account_id}; nothing was booked.",
                code="flex_other_account",
                account=other[0][:32],
            )


def _statement(element: Element, account_id: str) -> Statement:
    row = Row(element.attrib)
    try:
        first, last, made = row.day("fromDate"), row.day("toDate"), row.moment("whenGenerated")
    except RowError as error:
        raise _refuse("flex_bad_statement", f"The statement's head cannot be read: {error}.") from error
    if first is None or last is None or first > last:
        raise _refuse("flex_bad_statement", "The statement does not say from which to which day it goes.")
    statement = Statement(account_id, first, last, made[0].astimezone(UTC) if made else None)
    for section in element:
        known = _SECTIONS.get(section.tag)
        if known is None:
            statement.passed_over[section.tag[:40]] += 1
            continue
        statement.sections.add(section.tag)
        _read_section(section, known[0], known[1], statement)
    return statement


def _read_section(section: Element, tag: str, reader: Reader, statement: Statement) -> None:
    for number, element in enumerate(section, start=1):
        if element.tag != tag:  # orders, lots, sums by symbol: the executions stand beside them
            statement.passed_over[f"{section.tag}/{element.tag}"[:40]] += 1
            continue
        try:
            reader(Row(element.attrib), statement)
        except RowError as error:
            name = element.get("ibExecID") or element.get("transactionID") or element.get("conid") or ""
            statement.bad.append(BadRow(section.tag, number, name[:60], str(error)))


def _contract(row: Row) -> ContractRow:
    expiry = row.day("expiry")
    size = row.number("multiplier")
    if size is not None and size <= 0:
        raise RowError(f"multiplier={size} is not above zero")
    return ContractRow(
        con_id=row.whole("conid"),
        symbol=row.text("symbol")[:32],
        category=row.text("assetCategory")[:8],
        currency=_currency(row, "currency"),
        exchange=row.text("listingExchange")[:32],
        multiplier=size or Decimal(1),
        strike=row.number("strike") or None,
        expiry=f"{expiry:%Y%m%d}" if expiry else "",
        right=row.text("putCall")[:1],
        underlying_con_id=row.whole("underlyingConid"),
        underlying_symbol=row.text("underlyingSymbol")[:32],
    )


def _currency(row: Row, name: str) -> str:
    text = row.need(name)
    if not (len(text) == 3 and text.isascii() and text.isalpha() and text.isupper()):
        raise RowError(f"{name}={text[:20]!r} is no currency")
    return text


def _read_trade(row: Row, statement: Statement) -> None:
    level = row.text("levelOfDetail")
    if level not in {"", "EXECUTION"}:
        statement.passed_over[f"Trades {level}"[:40]] += 1
        return
    when = row.moment("dateTime")
    if when is None or not when[1]:
        raise RowError("dateTime has no time of day; add Date/Time to the Trades section of the Flex query")
    commission = row.number("ibCommission")
    statement.trades.append(
        TradeRow(
            exec_id=row.text("ibExecID")[:64],
            trade_id=row.text("tradeID")[:32],
            transaction_id=row.text("transactionID")[:32],
            transaction_type=row.text("transactionType") or "ExchTrade",
            contract=_contract(row),
            side=row.need("buySell"),
            quantity=row.need_number("quantity"),
            price=row.need_number("tradePrice"),
            executed_at=when[0].astimezone(UTC),
            commission=commission,
            commission_currency="" if commission is None else _currency(row, "ibCommissionCurrency"),
            taxes=row.number("taxes") or Decimal(0),
            order_ref=row.text("orderReference")[:64],
            order_id=row.text("ibOrderID")[:20],
            exchange=row.text("exchange")[:32],
            notes=frozenset(part.strip() for part in row.text("notes").replace(",", ";").split(";") if part.strip()),
        )
    )


def _read_cash(row: Row, statement: Statement) -> None:
    if row.text("levelOfDetail").upper() == "SUMMARY":
        statement.passed_over["CashTransactions SUMMARY"] += 1
        return
    when = row.moment("dateTime")
    posted = row.day("reportDate") or row.day("settleDate") or (when[0].date() if when else None)
    if posted is None:
        raise RowError("neither dateTime nor reportDate is given")
    at = when or (row.moment("settleDate") or row.moment("reportDate"))
    if at is None:
        raise RowError("no date is given")
    statement.cash.append(
        CashRow(
            transaction_id=row.text("transactionID")[:32],
            kind=row.need("type"),
            amount=row.need_number("amount"),
            currency=_currency(row, "currency"),
            con_id=row.whole("conid"),
            symbol=row.text("symbol")[:32],
            description=row.text("description")[:200],
            at=at[0].astimezone(UTC),
            has_time=at[1],
            posted=posted,
            ex_date=row.day("exDate"),
            trade_id=row.text("tradeID")[:32],
        )
    )


def _read_corporate(row: Row, statement: Statement) -> None:
    if row.text("levelOfDetail").upper() == "SUMMARY":
        statement.passed_over["CorporateActions SUMMARY"] += 1
        return
    when = row.moment("dateTime") or row.moment("reportDate")
    if when is None:
        raise RowError("neither dateTime nor reportDate is given")
    statement.corporate.append(
        CorporateRow(
            transaction_id=row.text("transactionID")[:32],
            action_id=row.text("actionID")[:32],
            kind=row.text("type")[:8],
            contract=_contract(row),
            description=(row.text("actionDescription") or row.text("description"))[:300],
            quantity=row.number("quantity") or Decimal(0),
            amount=row.number("amount") or row.number("proceeds") or Decimal(0),
            at=when[0].astimezone(UTC),
            posted=row.day("reportDate") or when[0].date(),
        )
    )


def _read_option(row: Row, statement: Statement) -> None:
    day = row.day("date")
    if day is None:
        raise RowError("date is missing")
    statement.options.append(
        OptionRow(
            kind=row.need("transactionType"),
            contract=_contract(row),
            quantity=row.need_number("quantity"),
            price=row.number("tradePrice"),
            day=day,
            trade_id=row.text("tradeID")[:32],
        )
    )


def _read_position(row: Row, statement: Statement) -> None:
    if row.text("levelOfDetail") not in {"", "SUMMARY"}:
        statement.passed_over["OpenPositions LOT"] += 1
        return
    if not row.whole("conid"):
        raise RowError("conid is missing; add it to the Open Positions section of the Flex query")
    statement.positions.append(OpenRow(_contract(row), row.need_number("position"), row.number("markPrice")))


def _read_ending_cash(row: Row, statement: Statement) -> None:
    if row.need("currency") == _SUMMARY:
        return
    currency = _currency(row, "currency")
    statement.ending_cash[currency] = row.need_number("endingCash")


def _read_accrual(row: Row, statement: Statement) -> None:
    ex_date: date | None = row.day("exDate")
    if ex_date is not None and row.whole("conid"):
        statement.accruals.append(AccrualRow(row.whole("conid"), ex_date, row.day("payDate")))


_SECTIONS: dict[str, tuple[str, Reader]] = {
    "Trades": ("Trade", _read_trade),
    "CashTransactions": ("CashTransaction", _read_cash),
    "CorporateActions": ("CorporateAction", _read_corporate),
    "OptionEAE": ("OptionEAE", _read_option),
    "OpenPositions": ("OpenPosition", _read_position),
    "CashReport": ("CashReportCurrency", _read_ending_cash),
    "ChangeInDividendAccruals": ("ChangeInDividendAccrual", _read_accrual),
    "OpenDividendAccruals": ("OpenDividendAccrual", _read_accrual),
}
