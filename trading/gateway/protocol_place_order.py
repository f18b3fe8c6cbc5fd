"""Read placeOrder, IB's longest message, to its very last field.

Owns: the order of its hundred-odd fields, the optional blocks inside, the tail that grew with versions 158–170.
Leaves: whether the order is any good (the venue decides).
Rule: nothing may be left over. A parser one field off has been seen turning a whatIf into a live order, so a message
that does not end where it must is refused whole with error 320. Fields that open a block (algorithm, hedge, lists) must
look like what they are, or a shifted field would open one and swallow the surplus.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import versions as v
from .model import Contract
from .protocol_errors import DecodeError
from .protocol_fields import UNSET_DOUBLE_VALUE, UNSET_INTEGER, FieldReader
from .protocol_messages import PlacedOrder

# Values that say nothing: not worth keeping in the echo.
_EMPTY = frozenset({"", "0", "0.0", UNSET_INTEGER, "1.7976931348623157E308", "1.7976931348623157e+308"})
_INFINITE = frozenset({"Infinite", "Infinity", "inf"})
# Shapes of repeated fields: n a number or nothing, t any text.
_LEG, _LEG_PRICE, _ROUTING, _DELTA_NEUTRAL = "nnttnntn", "n", "tt", "nnn"
LEG_FIELDS = len(_LEG)
_CONDITIONS = {
    1: "tnnntn",
    3: "tnt",
    4: "tnn",
    5: "tttt",
    6: "tnnnt",
    7: "tnnnt",
}  # price, time, margin, trade, volume, percent
_TEXTS = frozenset(
    {
        "secIdType", "secId", "openClose", "goodAfterTime", "goodTillDate", "faGroup", "faMethod", "faPercentage",
        "faProfile", "modelCode", "designatedLocation", "rule80A", "settlingFirm", "deltaNeutralOrderType",
        "deltaNeutralSettlingFirm", "deltaNeutralClearingAccount", "deltaNeutralClearingIntent",
        "deltaNeutralOpenClose",
        "deltaNeutralDesignatedLocation", "scaleTable", "activeStartTime", "activeStopTime", "hedgeParam",
        "clearingAccount", "clearingIntent", "algoId", "orderMiscOptions", "referenceExchangeId", "adjustedOrderType",
        "extOperator", "softDollarTierName", "softDollarTierValue", "mifid2DecisionMaker", "mifid2DecisionAlgo",
        "mifid2ExecutionTrader", "mifid2ExecutionAlgo", "advancedErrorOverride", "manualOrderTime",
    }
)  # fmt: skip

_BLOCK_ALLOCATION = ("discretionaryAmt", "goodAfterTime", "goodTillDate", "faGroup", "faMethod", "faPercentage")
_BLOCK_INSTITUTION = (
    "modelCode", "shortSaleSlot", "designatedLocation", "exemptCode", "ocaType", "rule80A", "settlingFirm", "allOrNone",
    "minQty", "percentOffset", "eTradeOnly", "firmQuoteOnly", "nbboPriceCap", "auctionStrategy", "startingPrice",
    "stockRefPrice", "delta", "stockRangeLower", "stockRangeUpper", "overridePercentageConstraints", "volatility",
    "volatilityType", "deltaNeutralOrderType", "deltaNeutralAuxPrice",
)  # fmt: skip
_BLOCK_DELTA_NEUTRAL = (
    "deltaNeutralConId", "deltaNeutralSettlingFirm", "deltaNeutralClearingAccount", "deltaNeutralClearingIntent",
    "deltaNeutralOpenClose", "deltaNeutralShortSale", "deltaNeutralShortSaleSlot", "deltaNeutralDesignatedLocation",
)  # fmt: skip
_BLOCK_SCALE = (
    "continuousUpdate", "referencePriceType", "trailStopPrice", "trailingPercent",
    "scaleInitLevelSize", "scaleSubsLevelSize", "scalePriceIncrement",
)  # fmt: skip
SCALE_MORE = (
    "scalePriceAdjustValue", "scalePriceAdjustInterval", "scaleProfitOffset", "scaleAutoReset",
    "scaleInitPosition", "scaleInitFillQty", "scaleRandomPercent",
)  # fmt: skip
_BLOCK_PEG_BENCH = (
    "referenceContractId", "isPeggedChangeAmountDecrease", "peggedChangeAmount",
    "referenceChangeAmount", "referenceExchangeId",
)  # fmt: skip
_BLOCK_TAIL = (
    "adjustedOrderType", "triggerPrice", "lmtPriceOffset", "adjustedStopPrice", "adjustedStopLimitPrice",
    "adjustedTrailingAmount", "adjustableTrailingUnit", "extOperator", "softDollarTierName", "softDollarTierValue",
    "cashQty", "mifid2DecisionMaker", "mifid2DecisionAlgo", "mifid2ExecutionTrader", "mifid2ExecutionAlgo",
    "dontUseAutoPriceForHedge", "isOmsContainer", "discretionaryUpToLimitPrice", "usePriceMgmtAlgo",
)  # fmt: skip
_GATED_TAIL = (
    (v.DURATION, "duration"),
    (v.POST_TO_ATS, "postToAts"),
    (v.AUTO_CANCEL_PARENT, "autoCancelParent"),
    (v.ADVANCED_REJECT, "advancedErrorOverride"),
    (v.MANUAL_ORDER_TIME, "manualOrderTime"),
)


def read_contract(r: FieldReader) -> Contract:
    """Read the 12 fields by which every request names its contract."""
    con_id = r.integer()
    symbol, sec_type, last_date = r.texts(3)
    strike = r.number()
    return Contract(con_id, symbol, sec_type, last_date, strike, *r.texts(7))


def read_place_order(r: FieldReader, version: int) -> PlacedOrder:
    """Read everything after the message id.

    Raises: DecodeError with the order id; the caller checks that no field is left.
    """
    echo: dict[str, str] = {}
    order_id = r.request_id()
    contract = read_contract(r)
    _keep(r, echo, ("secIdType", "secId"))
    action, quantity, order_type = r.text(), r.decimal(), r.text()
    limit_price, aux_price, tif, oca_group, account = r.decimal(), r.decimal(), r.text(), r.text(), r.text()
    _keep(r, echo, ("openClose", "origin"))
    order_ref, transmit, parent_id = r.text(), r.switch(), r.integer()
    _keep(r, echo, ("blockOrder", "sweepToFill", "displaySize", "triggerMethod"))
    outside_rth = r.switch()
    _keep(r, echo, ("hidden",))
    if contract.sec_type == "BAG":
        _combination(r, echo)
    _institution(r, echo, version)
    _scale_and_hedge(r, echo)
    algo_strategy, algo_params = _algorithm(r)
    _keep(r, echo, ("algoId",))
    what_if = r.switch()
    _keep(r, echo, ("orderMiscOptions", "solicited", "randomizeSize", "randomizePrice"))
    if order_type in {"PEG BENCH", "PEGBENCH"}:
        _keep(r, echo, _BLOCK_PEG_BENCH)
    _conditions(r, echo)
    _keep(r, echo, _BLOCK_TAIL)
    _keep(r, echo, tuple(name for gate, name in _GATED_TAIL if version >= gate))
    if version >= v.PEG_FIELDS:
        _peg_offsets(r, echo, contract.exchange, order_type)
    return PlacedOrder(
        order_id=order_id, contract=contract, action=action, quantity=quantity, order_type=order_type,
        limit_price=limit_price, aux_price=aux_price, tif=tif, oca_group=oca_group, account=account,
        order_ref=order_ref, transmit=transmit, parent_id=parent_id, outside_rth=outside_rth, what_if=what_if,
        algo_strategy=algo_strategy, algo_params=algo_params, echo=echo,
    )  # fmt: skip


def _keep(r: FieldReader, echo: dict[str, str], names: tuple[str, ...]) -> None:
    for name in names:
        text = r.text() if name in _TEXTS else _number_text(r)
        if text not in _EMPTY:
            echo[name] = text


def _number_text(r: FieldReader) -> str:
    """Return a field that must be a number or empty: it is echoed to other clients, whose decoders trust it."""
    text = r.text()
    if text and text not in _INFINITE:
        try:
            float(text)
        except ValueError:
            raise DecodeError(f"A number is expected where {text[:40]!r} stands.", r.req_id) from None
    return "Infinity" if text in _INFINITE else text


def _shaped(r: FieldReader, shape: str) -> list[str]:
    return [r.text() if kind == "t" else _number_text(r) for kind in shape]


def _combination(r: FieldReader, echo: dict[str, str]) -> None:
    """Legs, leg prices and routing parameters of a BAG; kept as runs of fields with their count in front."""
    for name, shape in (("comboLegs", _LEG), ("orderComboLegs", _LEG_PRICE), ("smartComboRoutingParams", _ROUTING)):
        number = r.count()
        if number:
            echo[name] = "\0".join([str(number), *_shaped(r, shape * number)])


def _institution(r: FieldReader, echo: dict[str, str], version: int) -> None:
    r.skip()  # shares allocation, dead
    _keep(r, echo, _BLOCK_ALLOCATION)
    if version < v.NO_FA_PROFILE:
        _keep(r, echo, ("faProfile",))
    _keep(r, echo, _BLOCK_INSTITUTION)
    if "deltaNeutralOrderType" in echo:
        if not echo["deltaNeutralOrderType"][0].isalpha():
            raise DecodeError("The delta-neutral order type is no word.", r.req_id)
        _keep(r, echo, _BLOCK_DELTA_NEUTRAL)


def _scale_and_hedge(r: FieldReader, echo: dict[str, str]) -> None:
    _keep(r, echo, _BLOCK_SCALE)
    if scaled(echo):
        _keep(r, echo, SCALE_MORE)
    _keep(r, echo, ("scaleTable", "activeStartTime", "activeStopTime"))
    hedge_type = r.word()
    if hedge_type:
        echo["hedgeType"] = hedge_type
        _keep(r, echo, ("hedgeParam",))
    _keep(r, echo, ("optOutSmartRouting", "clearingAccount", "clearingIntent", "notHeld"))
    if r.switch():
        echo["deltaNeutralContract"] = "\0".join(_shaped(r, _DELTA_NEUTRAL))


def _algorithm(r: FieldReader) -> tuple[str, tuple[tuple[str, str], ...]]:
    strategy = r.word()
    if not strategy:
        return "", ()
    return strategy, tuple((r.text(), r.text()) for _ in range(r.count()))


def _conditions(r: FieldReader, echo: dict[str, str]) -> None:
    number = r.count()
    if not number:
        return
    run = [str(number)]
    for _ in range(number):
        kind = r.integer()
        if kind not in _CONDITIONS:
            raise DecodeError(f"Condition type {kind} does not exist.", r.req_id)
        run += [str(kind), *_shaped(r, _CONDITIONS[kind])]
    echo["conditions"] = "\0".join(run)
    _keep(r, echo, ("conditionsIgnoreRth", "conditionsCancelOrder"))


def _peg_offsets(r: FieldReader, echo: dict[str, str], exchange: str, order_type: str) -> None:
    if exchange == "IBKRATS":
        _keep(r, echo, ("minTradeQty",))
    mid = order_type in {"PEG MID", "PEGMID"}
    if order_type in {"PEG BEST", "PEGBEST"}:
        _keep(r, echo, ("minCompeteSize", "competeAgainstBestOffset"))
        mid = echo.get("competeAgainstBestOffset", "") == "Infinity"
    if mid:
        _keep(r, echo, ("midOffsetAtWhole", "midOffsetAtHalf"))


def scaled(echo: Mapping[str, str]) -> bool:
    """Say whether an order scales: then seven more fields follow its increment, in both directions."""
    return 0 < float(echo.get("scalePriceIncrement", "0")) < UNSET_DOUBLE_VALUE
