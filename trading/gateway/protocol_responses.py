"""Write the gateway's answers: ids, errors, reference data, account and market data.

Owns: field order and version gates of every answer but openOrder and completedOrder (``protocol_open_order``) and
executions (``protocol_executions``).
Leaves: who receives them and when (``wire_*``).
Rule: every function returns one whole frame, ready for the socket; sizes are whole below version 163, where clients
read ints.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

from . import versions as v
from .model import AccountRow, Bar, Contract, ContractDetails, Pnl, PositionRow, PriceIncrement
from .protocol import frame
from .protocol_fields import UNSET_DOUBLE, ascii7, ib_zone, price, size, whole


def message(*fields: str) -> bytes:
    """Frame the fields, each ended by NUL."""
    return frame(("\0".join(fields) + "\0").encode())


def sized(value: Decimal, version: int) -> str:
    """Spell a quantity the way clients of ``version`` can read it."""
    return size(value) if version >= v.DECIMAL_SIZES else whole(value)


@lru_cache(maxsize=4096)
def contract_text(c: Contract, right: str = "") -> str:
    """The 11 contract fields of most answers: no primary exchange; ``right`` stands in where the contract has none."""
    return "\0".join(
        (
            str(c.con_id),
            c.symbol,
            c.sec_type,
            c.last_trade_date,
            str(c.strike),
            c.right or right,
            c.multiplier,
            c.exchange,
            c.currency,
            c.local_symbol,
            c.trading_class,
        )
    )


# session


def next_valid_id(order_id: int) -> bytes:
    """nextValidId."""
    return message("9", "1", str(order_id))


def managed_accounts(accounts: Sequence[str]) -> bytes:
    """managedAccounts."""
    return message("15", "1", ",".join(accounts))


def current_time(now: datetime) -> bytes:
    """currentTime, epoch seconds."""
    return message("49", "1", str(int(now.timestamp())))


def error(req_id: int, code: int, text: str, version: int) -> bytes:
    """error; notices such as 2104 and 202 travel the same way."""
    fields = ["4", "2", str(req_id), str(code), ascii7(text)]
    if version >= v.ADVANCED_REJECT:
        fields.append("")
    return message(*fields)


# reference data


def contract_details(req_id: int, details: ContractDetails, version: int) -> bytes:
    """contractDetails of one instrument."""
    c = details.contract
    fields = ["10"] if version >= v.SIZE_RULES else ["10", "8"]
    fields += [
        str(req_id), c.symbol, c.sec_type, c.last_trade_date, str(c.strike), c.right, c.exchange, c.currency,
        c.local_symbol, c.trading_class, c.trading_class, str(c.con_id), price(details.min_tick),
    ]  # fmt: skip
    if version < v.SIZE_RULES:
        fields.append("1")  # mdSizeMultiplier
    name = ascii7(details.long_name) if version >= v.ASCII7 else details.long_name
    fields += [
        c.multiplier, ",".join(details.order_types), ",".join(details.valid_exchanges), str(details.price_magnifier),
        str(details.under_con_id), name, c.primary_exchange, details.contract_month, details.industry,
        details.category, details.subcategory, ib_zone(details.time_zone), details.trading_hours,
        details.liquid_hours, "", "0", "0", "1", details.under_symbol, details.under_sec_type,
        ",".join(map(str, details.market_rule_ids)), c.last_trade_date,
    ]  # fmt: skip
    if version >= v.STOCK_TYPE:
        fields.append(details.stock_type)
    if version == v.SUGGESTED_SIZE_ONLY:
        fields.append(size(details.size_increment))
    if version >= v.SIZE_RULES:
        fields += [size(details.min_size), size(details.size_increment), size(details.size_increment)]
    return message(*fields)


def contract_details_end(req_id: int) -> bytes:
    """contractDetailsEnd."""
    return message("52", "1", str(req_id))


def symbol_samples(req_id: int, found: Sequence[ContractDetails], version: int) -> bytes:
    """symbolSamples, each with the security types of its derivatives."""
    fields = ["79", str(req_id), str(len(found))]
    for details in found:
        c = details.contract
        fields += [str(c.con_id), c.symbol, c.sec_type, c.primary_exchange or c.exchange, c.currency]
        fields += [str(len(details.derivatives)), *details.derivatives]
        if version >= v.ISSUER_ID:
            fields += [ascii7(details.long_name), ""]
    return message(*fields)


def market_rule(rule_id: int, increments: Sequence[PriceIncrement]) -> bytes:
    """marketRule."""
    steps = [text for step in increments for text in (price(step.low_edge), price(step.increment))]
    return message("93", str(rule_id), str(len(increments)), *steps)


def option_parameters_end(req_id: int) -> bytes:
    """securityDefinitionOptionParameterEnd."""
    return message("76", str(req_id))


def soft_dollar_tiers(req_id: int) -> bytes:
    """softDollarTiers, none."""
    return message("77", str(req_id), "0")


def family_codes(accounts: Sequence[str]) -> bytes:
    """familyCodes: every account in the empty family."""
    return message("78", str(len(accounts)), *(text for account in accounts for text in (account, "")))


def empty_list(message_id: int, *head: str) -> bytes:
    """An answer that is a list without entries: depth exchanges 80, smart components 82, news providers 85."""
    return message(str(message_id), *head, "0")


def user_info(req_id: int) -> bytes:
    """userInfo: no white branding."""
    return message("107", str(req_id), "")


# account


def account_value(row: AccountRow, account: str) -> bytes:
    """updateAccountValue."""
    return message("6", "2", row.key, row.value, row.currency, account)


def portfolio_value(row: PositionRow) -> bytes:
    """updatePortfolio."""
    c = row.contract
    return message(
        "7", "8", str(c.con_id), c.symbol, c.sec_type, c.last_trade_date, str(c.strike), c.right or "0", c.multiplier,
        c.primary_exchange or c.exchange, c.currency, c.local_symbol, c.trading_class, size(row.quantity),
        price(row.market_price), price(row.market_value), price(row.average_cost), price(row.unrealized_pnl),
        price(row.realized_pnl), row.account,
    )  # fmt: skip


def account_time(now: datetime) -> bytes:
    """updateAccountTime, hh:mm."""
    return message("8", "1", f"{now.astimezone(UTC):%H:%M}")


def account_download_end(account: str) -> bytes:
    """accountDownloadEnd."""
    return message("54", "1", account)


def account_summary(req_id: int, account: str, row: AccountRow) -> bytes:
    """accountSummary of one tag."""
    return message("63", "1", str(req_id), account, row.key, row.value, row.currency)


def account_summary_end(req_id: int) -> bytes:
    """accountSummaryEnd."""
    return message("64", "1", str(req_id))


def account_update_multi(req_id: int, account: str, row: AccountRow) -> bytes:
    """accountUpdateMulti of one value."""
    return message("73", "1", str(req_id), account, "", row.key, row.value, row.currency)


def account_update_multi_end(req_id: int) -> bytes:
    """accountUpdateMultiEnd."""
    return message("74", "1", str(req_id))


def position(row: PositionRow) -> bytes:
    """position."""
    return message("61", "3", row.account, contract_text(row.contract), size(row.quantity), price(row.average_cost))


def position_end() -> bytes:
    """positionEnd."""
    return message("62", "1")


def position_multi(req_id: int, row: PositionRow) -> bytes:
    """positionMulti; the model code is empty, there are no models."""
    contract, quantity, cost = contract_text(row.contract), size(row.quantity), price(row.average_cost)
    return message("71", "1", str(req_id), row.account, contract, quantity, cost, "")


def position_multi_end(req_id: int) -> bytes:
    """positionMultiEnd."""
    return message("72", "1", str(req_id))


def pnl(req_id: int, figures: Pnl) -> bytes:
    """pnl of the account."""
    return message("94", str(req_id), price(figures.daily), price(figures.unrealized), price(figures.realized))


def pnl_single(req_id: int, figures: Pnl, version: int) -> bytes:
    """pnlSingle of one position; unset doubles where the venue has no figure."""
    quantity = sized(figures.position if figures.position is not None else Decimal(0), version)
    return message(
        "95", str(req_id), quantity, price(figures.daily), price(figures.unrealized), price(figures.realized),
        price(figures.value, UNSET_DOUBLE),
    )  # fmt: skip


# market data


def tick_price(req_id: int, tick: int, value: Decimal, amount: Decimal, version: int, mask: int = 0) -> bytes:
    """tickPrice with the size beside it."""
    return message("1", "6", str(req_id), str(tick), price(value), sized(amount, version), str(mask))


def tick_size(req_id: int, tick: int, amount: Decimal, version: int) -> bytes:
    """tickSize."""
    return message("2", "6", str(req_id), str(tick), sized(amount, version))


def tick_string(req_id: int, tick: int, text: str) -> bytes:
    """tickString."""
    return message("46", "6", str(req_id), str(tick), text)


def tick_generic(req_id: int, tick: int, value: Decimal) -> bytes:
    """tickGeneric."""
    return message("45", "6", str(req_id), str(tick), price(value))


def tick_request_parameters(req_id: int, min_tick: Decimal, bbo_exchange: str) -> bytes:
    """tickReqParams; snapshot permissions 3, as for a subscribed user."""
    return message("81", str(req_id), price(min_tick), bbo_exchange, "3")


def tick_snapshot_end(req_id: int) -> bytes:
    """tickSnapshotEnd."""
    return message("57", "1", str(req_id))


def market_data_type(req_id: int, data_type: int) -> bytes:
    """marketDataType of one request."""
    return message("58", "1", str(req_id), str(data_type))


def real_time_bar(req_id: int, bar: Bar, version: int) -> bytes:
    """realtimeBar; stamped with its start, epoch seconds."""
    return message(
        "50", "3", str(req_id), str(int(bar.start.timestamp())), price(bar.open), price(bar.high), price(bar.low),
        price(bar.close), sized(bar.volume, version), price(bar.wap), str(bar.count),
    )  # fmt: skip


def historical_data(
    req_id: int, start: str, end: str, bars: Sequence[tuple[str, Bar]], version: int, *, traded: bool
) -> bytes:
    """historicalData: every bar of one answer; volume, wap and count are −1 unless the bars are of trades."""
    fields: list[str] = []
    for date, bar in bars:
        fields += (date, price(bar.open), price(bar.high), price(bar.low), price(bar.close))
        fields += (sized(bar.volume, version), price(bar.wap), str(bar.count)) if traded else ("-1", "-1", "-1")
    return message("17", str(req_id), start, end, str(len(bars)), *fields)


def historical_data_update(req_id: int, date: str, bar: Bar, version: int, *, traded: bool) -> bytes:
    """historicalDataUpdate; close comes before high and low here, unlike in historicalData."""
    volume, wap, count = (sized(bar.volume, version), price(bar.wap), str(bar.count)) if traded else ("-1", "-1", "-1")
    return message(
        "90", str(req_id), count, date, price(bar.open), price(bar.close), price(bar.high), price(bar.low), wap, volume
    )


def head_timestamp(req_id: int, text: str) -> bytes:
    """headTimestamp."""
    return message("88", str(req_id), text)
