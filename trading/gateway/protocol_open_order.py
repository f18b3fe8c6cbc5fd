"""Write openOrder and completedOrder: the order as the gateway holds it, with what its client sent echoed back.

Owns: the two longest answers, their version gates and IB's defaults.
Rule: what a client sent comes back as sent; what it left out comes back as TWS shows it, odd as that is: delta-neutral
type ``None`` with its eight extra fields, clearing intent ``IB``, ocaType 3, adjusted type ``None``, right ``?``.
Source: order logs of real TWS sessions.
"""

from __future__ import annotations

from decimal import Decimal

from . import versions as v
from .model import Contract, OrderRequest, OrderSnapshot, WhatIf
from .protocol import frame
from .protocol_fields import UNSET_DOUBLE, UNSET_INTEGER, flag, price, size
from .protocol_place_order import LEG_FIELDS, SCALE_MORE, scaled
from .protocol_responses import contract_text, message

_DELTA_NEUTRAL_OPEN = (
    ("deltaNeutralConId", "0"), ("deltaNeutralSettlingFirm", ""), ("deltaNeutralClearingAccount", ""),
    ("deltaNeutralClearingIntent", ""), ("deltaNeutralOpenClose", "?"), ("deltaNeutralShortSale", "0"),
    ("deltaNeutralShortSaleSlot", "0"), ("deltaNeutralDesignatedLocation", ""),
)  # fmt: skip
_PEG_BENCH = (
    ("referenceContractId", "0"), ("isPeggedChangeAmountDecrease", "0"), ("peggedChangeAmount", "0.0"),
    ("referenceChangeAmount", "0.0"), ("referenceExchangeId", ""),
)  # fmt: skip
_PEG_OFFSETS = ("minTradeQty", "minCompeteSize", "competeAgainstBestOffset", "midOffsetAtWhole", "midOffsetAtHalf")


class _Echo:
    """What the client sent, by IB's name, with a default for each field left out."""

    def __init__(self, request: OrderRequest) -> None:
        self.sent = request.echo

    def __call__(self, name: str, default: str = "") -> str:
        return self.sent.get(name, default)

    def rows(self, table: tuple[tuple[str, str], ...]) -> list[str]:
        return [self.sent.get(name, default) for name, default in table]

    def run(self, name: str) -> list[str]:
        """A list kept as count and fields; ``0`` when there is none."""
        return self.sent.get(name, "0").split("\0")


class OpenOrderWriter:
    """Write openOrder; the part of an order that its fills do not change is spelled once.

    A burst of partial fills repeats a hundred fields in which one, the status, may differ. An order is recognised by
    the identity of its request, which the venue replaces when the order is modified.
    """

    def __init__(self, capacity: int = 256) -> None:
        self._capacity = capacity
        self._spelled: dict[tuple[int, int], tuple[OrderRequest, Contract, bytes, bytes]] = {}

    def __call__(self, order: OrderSnapshot, version: int) -> bytes:
        """Return the frame for one reader's version."""
        key = (order.perm_id, version)
        known = self._spelled.get(key)
        if known is None or known[0] is not order.request or known[1] is not order.contract:
            if len(self._spelled) >= self._capacity:
                self._spelled.clear()
            echo = _Echo(order.request)
            before, after = _text(_before_state(order, echo, version)), _text(_after_state(order, echo, version))
            known = self._spelled[key] = (order.request, order.contract, before, after)
        return frame(known[2] + _text(_order_state(order, None)) + known[3])


def open_order(order: OrderSnapshot, version: int, what_if: WhatIf | None = None) -> bytes:
    """openOrder of a working order, or the answer to a whatIf."""
    echo = _Echo(order.request)
    return message(
        *_before_state(order, echo, version), *_order_state(order, what_if), *_after_state(order, echo, version)
    )


def _text(fields: list[str]) -> bytes:
    return ("\0".join(fields) + "\0").encode()


def _before_state(order: OrderSnapshot, echo: _Echo, version: int) -> list[str]:
    request = order.request
    return [
        "5",
        str(request.order_id),
        *_head(order, echo, completed=False),
        *_allocation(echo, version, deprecated_shares=True),
        *_institution_open(request, echo),
        *_volatility(echo, _DELTA_NEUTRAL_OPEN),
        *_trailing(echo),
        echo("basisPoints", UNSET_DOUBLE),
        echo("basisPointsType", UNSET_INTEGER),
        *_combination(echo),
        *_scale_and_hedge(echo),
        flag(echo("optOutSmartRouting") == "1"),
        *_clearing(echo),
        *_algorithm(request),
        flag(echo("solicited") == "1"),
    ]


def _after_state(order: OrderSnapshot, echo: _Echo, version: int) -> list[str]:
    return [
        *_randomize_and_peg(order.request, echo),
        *_conditions(echo),
        *_adjusted(echo),
        echo("softDollarTierName"),
        echo("softDollarTierValue"),
        "",
        echo("cashQty", "0.0"),
        echo("dontUseAutoPriceForHedge", "1"),
        flag(echo("isOmsContainer") == "1"),
        flag(echo("discretionaryUpToLimitPrice") == "1"),
        echo("usePriceMgmtAlgo", "0"),
        *_gated_open(echo, version),
    ]


def completed_order(order: OrderSnapshot, version: int) -> bytes:
    """completedOrder of an order that ended today."""
    request = order.request
    echo = _Echo(request)
    delta_neutral = tuple(row for row in _DELTA_NEUTRAL_OPEN if row[0] in _DELTA_NEUTRAL_COMPLETED)
    return message(
        "101",
        *_head(order, echo, completed=True),
        *_allocation(echo, version, deprecated_shares=False),
        *_institution_completed(echo),
        *_volatility(echo, delta_neutral),
        *_trailing(echo),
        *_combination(echo),
        *_scale_and_hedge(echo),
        *_clearing(echo),
        *_algorithm(request),
        flag(echo("solicited") == "1"),
        order.status,
        *_randomize_and_peg(request, echo),
        *_conditions(echo),
        echo("trailStopPrice", UNSET_DOUBLE),
        echo("lmtPriceOffset", UNSET_DOUBLE),
        echo("cashQty", "0.0"),
        echo("dontUseAutoPriceForHedge", "1"),
        flag(echo("isOmsContainer") == "1"),
        "",  # autoCancelDate
        size(order.filled),
        "0",  # refFuturesConId
        flag(echo("autoCancelParent") == "1"),
        "",  # shareholder
        "0",  # imbalanceOnly
        "0",  # routeMarketableToBbo
        str(2**63 - 1),  # parentPermId, IB's unset long
        order.completed_time,
        order.completed_status,
        *(_peg_offsets(echo) if version >= v.PEG_FIELDS else ()),
    )


_DELTA_NEUTRAL_COMPLETED = frozenset(
    {"deltaNeutralConId", "deltaNeutralShortSale", "deltaNeutralShortSaleSlot", "deltaNeutralDesignatedLocation"}
)


def _head(order: OrderSnapshot, echo: _Echo, *, completed: bool) -> list[str]:
    r = order.request
    ids = [str(order.perm_id)] if completed else [str(r.client_id), str(order.perm_id)]
    return [
        contract_text(order.contract, "?"), r.action, size(r.quantity), r.order_type, price(r.limit_price),
        price(r.aux_price), r.tif, r.oca_group, r.account, echo("openClose") if echo("openClose") != "O" else "",
        echo("origin", "0"), r.order_ref, *ids, flag(r.outside_rth), flag(echo("hidden") == "1"),
        echo("discretionaryAmt", "0.0"), echo("goodAfterTime"),
    ]  # fmt: skip


def _allocation(echo: _Echo, version: int, *, deprecated_shares: bool) -> list[str]:
    fields = [""] if deprecated_shares else []
    fields += [echo("faGroup"), echo("faMethod"), echo("faPercentage")]
    if version < v.NO_FA_PROFILE:
        fields.append(echo("faProfile"))
    return [*fields, echo("modelCode"), echo("goodTillDate"), echo("rule80A"), echo("percentOffset", UNSET_DOUBLE)]


def _short_sale(echo: _Echo) -> list[str]:
    return [
        echo("settlingFirm"), echo("shortSaleSlot", "0"), echo("designatedLocation"), echo("exemptCode", "-1"),
    ]  # fmt: skip


def _prices(echo: _Echo) -> list[str]:
    names = ("startingPrice", "stockRefPrice", "delta", "stockRangeLower", "stockRangeUpper")
    return [echo(name, UNSET_DOUBLE) for name in names]


def _institution_open(r: OrderRequest, echo: _Echo) -> list[str]:
    return [
        *_short_sale(echo), echo("auctionStrategy", "0"), *_prices(echo), echo("displaySize", UNSET_INTEGER),
        echo("blockOrder", "0"), echo("sweepToFill", "0"), echo("allOrNone", "0"), echo("minQty", UNSET_INTEGER),
        echo("ocaType", "3"), "0", "0", UNSET_DOUBLE, str(r.parent_id), echo("triggerMethod", "0"),
    ]  # fmt: skip


def _institution_completed(echo: _Echo) -> list[str]:
    return [
        *_short_sale(echo), *_prices(echo), echo("displaySize", UNSET_INTEGER), echo("sweepToFill", "0"),
        echo("allOrNone", "0"), echo("minQty", UNSET_INTEGER), echo("ocaType", "3"), echo("triggerMethod", "0"),
    ]  # fmt: skip


def _volatility(echo: _Echo, extra: tuple[tuple[str, str], ...]) -> list[str]:
    """Volatility block; the delta-neutral type is never empty, so its extra fields always follow."""
    return [
        echo("volatility", UNSET_DOUBLE), echo("volatilityType", "0"), echo("deltaNeutralOrderType", "None"),
        echo("deltaNeutralAuxPrice", UNSET_DOUBLE), *echo.rows(extra), echo("continuousUpdate", "0"),
        echo("referencePriceType", "0"),
    ]  # fmt: skip


def _trailing(echo: _Echo) -> list[str]:
    return [echo("trailStopPrice", UNSET_DOUBLE), echo("trailingPercent", UNSET_DOUBLE)]


def _legs_text(run: str) -> str:
    """comboLegsDescrip: conId and signed ratio of each leg, as TWS sums them up."""
    fields = run.split("\0")[1:]
    rows = [fields[at : at + LEG_FIELDS] for at in range(0, len(fields), LEG_FIELDS)]
    return ",".join(f"{leg[0]}|{'' if leg[2] == 'BUY' else '-'}{leg[1]}" for leg in rows)


def _combination(echo: _Echo) -> list[str]:
    return [
        _legs_text(echo("comboLegs")),
        *echo.run("comboLegs"),
        *echo.run("orderComboLegs"),
        *echo.run("smartComboRoutingParams"),
    ]


def _scale_and_hedge(echo: _Echo) -> list[str]:
    increment = echo("scalePriceIncrement", UNSET_DOUBLE)
    fields = [echo("scaleInitLevelSize", UNSET_INTEGER), echo("scaleSubsLevelSize", UNSET_INTEGER), increment]
    if scaled(echo.sent):
        fields += [echo(name, "0") for name in SCALE_MORE]
    hedge = echo("hedgeType")
    return [*fields, hedge, *([echo("hedgeParam")] if hedge else [])]


def _clearing(echo: _Echo) -> list[str]:
    delta_neutral = echo("deltaNeutralContract")
    present = ["1", *delta_neutral.split("\0")] if delta_neutral else ["0"]
    return [echo("clearingAccount"), echo("clearingIntent", "IB"), flag(echo("notHeld") == "1"), *present]


def _algorithm(r: OrderRequest) -> list[str]:
    if not r.algo_strategy:
        return [""]
    return [r.algo_strategy, str(len(r.algo_params)), *(text for pair in r.algo_params for text in pair)]


def _order_state(order: OrderSnapshot, what_if: WhatIf | None) -> list[str]:
    if what_if is None:
        return [flag(order.request.what_if), order.status, *[UNSET_DOUBLE] * 9, *[""] * 4, order.reject_reason]
    w = what_if
    margins = (
        w.init_margin_before, w.maint_margin_before, w.equity_before, w.init_margin_change, w.maint_margin_change,
        w.equity_change, w.init_margin_after, w.maint_margin_after, w.equity_after,
    )  # fmt: skip
    costs = [price(w.commission), "", "", w.currency]
    return ["1", order.status, *(price(Decimal(figure)) for figure in margins), *costs, ""]


def _randomize_and_peg(r: OrderRequest, echo: _Echo) -> list[str]:
    fields = [flag(echo("randomizeSize") == "1"), flag(echo("randomizePrice") == "1")]
    if r.order_type in {"PEG BENCH", "PEGBENCH"}:
        fields += echo.rows(_PEG_BENCH)
    return fields


def _conditions(echo: _Echo) -> list[str]:
    run = echo.run("conditions")
    if run == ["0"]:
        return run
    return [*run, flag(echo("conditionsIgnoreRth") == "1"), flag(echo("conditionsCancelOrder") == "1")]


def _adjusted(echo: _Echo) -> list[str]:
    names = ("lmtPriceOffset", "adjustedStopPrice", "adjustedStopLimitPrice", "adjustedTrailingAmount")
    return [
        echo("adjustedOrderType", "None"), echo("triggerPrice", UNSET_DOUBLE), echo("trailStopPrice", UNSET_DOUBLE),
        *(echo(name, UNSET_DOUBLE) for name in names), echo("adjustableTrailingUnit", "0"),
    ]  # fmt: skip


def _peg_offsets(echo: _Echo) -> list[str]:
    return [echo(name) for name in _PEG_OFFSETS]


def _gated_open(echo: _Echo, version: int) -> list[str]:
    fields: list[str] = []
    if version >= v.OPEN_ORDER_DURATION:
        fields.append(echo("duration", UNSET_INTEGER))
    if version >= v.POST_TO_ATS:
        fields.append(echo("postToAts", UNSET_INTEGER))
    if version >= v.AUTO_CANCEL_PARENT:
        fields.append(flag(echo("autoCancelParent") == "1"))
    if version >= v.PEG_FIELDS:
        fields += _peg_offsets(echo)
    return fields
