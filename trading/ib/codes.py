"""IB's error codes, our own table: how bad, what it means, what to do; and what it may conclude about an order.

IB sends notices, warnings and refusals through one callback, and its ids are shared by orders and requests.
Rule: an error text alone ends an order only when IB documents that it never accepted it; every other code on an order
is a notice or a reason to ask, and a code that is not listed is a reason to ask.
Source: IB's message codes page and the behaviour recorded with real gateways.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Severity(StrEnum):
    """How much attention a code needs."""

    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"


class OrderVerdict(StrEnum):
    """What a code says about the order that it names."""

    NOTICE = "notice"  # the order lives on
    REJECTED = "rejected"  # a new order was not accepted; a working one is to be asked about
    CANCELLED = "cancelled"  # IB confirms a cancel; the status follows
    QUERY = "query"  # ask IB, conclude nothing


@dataclass(frozen=True, slots=True)
class CodeInfo:
    """One row of the table; ``remedy`` is a sentence for the operator."""

    code: int
    severity: Severity
    meaning: str
    remedy: str = ""
    verdict: OrderVerdict = OrderVerdict.QUERY
    fails_request: bool = False
    source: str = ""  # where the meaning is from


_N, _W, _E = Severity.NOTICE, Severity.WARNING, Severity.ERROR
_LIVES, _REFUSED, _ASK = OrderVerdict.NOTICE, OrderVerdict.REJECTED, OrderVerdict.QUERY

_ROWS = (
    CodeInfo(100, _E, "More than 50 messages a second.", "Slow down; MATS paces itself, look for another client."),
    CodeInfo(101, _E, "All market data lines are in use.", "Fewer instruments, or more lines.", fails_request=True),
    CodeInfo(102, _E, "Duplicate ticker id.", fails_request=True),
    CodeInfo(103, _E, "Duplicate order id.", "The order was not accepted; ids only grow.", _REFUSED),
    CodeInfo(104, _W, "A filled order cannot be modified.", "Its executions are requested."),
    CodeInfo(105, _W, "The modification does not match the order.", "The order works on as it was."),
    CodeInfo(106, _E, "The order could not be transmitted.", "Look at the order in TWS."),
    CodeInfo(107, _E, "The order is incomplete.", "Check its fields.", _REFUSED),
    CodeInfo(109, _E, "The price is out of the range IB accepts.", "Check the limit.", _REFUSED),
    CodeInfo(110, _E, "The price does not fit the tick size.", "Round to the tick.", _REFUSED, True),
    CodeInfo(111, _E, "Time in force and order type do not fit.", "Change one of them.", _REFUSED),
    CodeInfo(113, _E, "Time in force must be DAY for MOC and LOC.", "Use DAY.", _REFUSED),
    CodeInfo(116, _E, "The order cannot be sent to a dead exchange.", "Use another exchange.", _REFUSED),
    CodeInfo(118, _E, "The market order cannot be routed there.", "Use SMART.", _REFUSED),
    CodeInfo(131, _E, "The sum of the sizes is too large.", "Use a smaller size.", _REFUSED),
    CodeInfo(133, _E, "The order could not be submitted.", "Read IB's text.", _REFUSED),
    CodeInfo(134, _W, "The change could not be made.", "The order works on as it was."),
    CodeInfo(135, _W, "IB does not find an order with that id.", "MATS asks for open and completed orders."),
    CodeInfo(136, _W, "The order cannot be cancelled any more.", "MATS asks for its state."),
    CodeInfo(145, _E, "A field of the order is not valid.", "Read IB's text.", _REFUSED),
    CodeInfo(146, _E, "The trigger method is not valid.", "Leave it at its default.", _REFUSED),
    CodeInfo(154, _E, "The security is halted.", "Wait until it trades again.", _REFUSED),
    CodeInfo(161, _W, "The order is not in a state that can be cancelled.", "MATS asks for its state."),
    CodeInfo(162, _E, "Historical data refused.", "No data, no permission, or too many requests.", fails_request=True),
    CodeInfo(163, _E, "The price breaks the percentage limit.", "Check the limit, or the preset in TWS.", _REFUSED),
    CodeInfo(164, _N, "There is no market data to check the price against.", verdict=_LIVES),
    CodeInfo(165, _N, "Historical data service message.", verdict=_LIVES),
    CodeInfo(200, _E, "No such contract, or an ambiguous one.", "Name the contract fully.", _REFUSED, True),
    CodeInfo(201, _E, "IB rejected the order.", "Read the reason; margin is the usual one.", _REFUSED),
    CodeInfo(202, _N, "The order was cancelled.", verdict=OrderVerdict.CANCELLED),
    CodeInfo(203, _E, "The instrument is not available for this account.", "Check permissions.", _REFUSED),
    CodeInfo(300, _N, "No such ticker id.", verdict=_LIVES),
    CodeInfo(309, _E, "Too many market depth requests.", fails_request=True),
    CodeInfo(320, _E, "IB could not read the request.", "A client of another version may be at fault.", _ASK, True),
    CodeInfo(321, _E, "IB found the request invalid.", "Read the text.", _ASK, True),
    CodeInfo(322, _E, "IB could not process the request.", "Read the text.", _ASK, True),
    CodeInfo(326, _E, "The client id is in use.", "Another program holds it, or a dead one until TWS restarts."),
    CodeInfo(327, _E, "Only client 0 may bind orders automatically."),
    CodeInfo(329, _W, "The order type cannot be changed.", "The order works on as it was."),
    CodeInfo(334, _E, "The good-till date is missing or past.", "Give a later date.", _REFUSED),
    CodeInfo(337, _E, "A date or time of the order cannot be read.", "Write yyyymmdd hh:mm:ss zone.", _REFUSED),
    CodeInfo(354, _E, "No market data subscription.", "Subscribe with IB, or use delayed data.", fails_request=True),
    CodeInfo(366, _N, "No such historical data request.", verdict=_LIVES),
    CodeInfo(382, _E, "The price is beyond the fat-finger limit.", "Check the limit.", _REFUSED),
    CodeInfo(383, _E, "The size is beyond the preset limit.", "Check the size, or the preset in TWS.", _REFUSED),
    CodeInfo(387, _E, "The order type is not available there.", "Use another type.", _REFUSED),
    CodeInfo(388, _E, "The size is below the exchange's minimum.", "Use a larger size.", _REFUSED),
    CodeInfo(399, _N, "Notice about the order.", verdict=_LIVES),
    CodeInfo(404, _N, "Shares are being located; the order is held, not dead.", verdict=_LIVES),
    CodeInfo(420, _E, "Real-time bars refused.", "Too many requests, or no subscription.", fails_request=True),
    CodeInfo(430, _E, "No fundamental data.", fails_request=True),
    CodeInfo(434, _E, "The size is zero.", "Give a size.", _REFUSED),
    CodeInfo(439, _E, "The algorithm does not exist.", "Check the algo's name.", _REFUSED),
    CodeInfo(441, _E, "An algorithm parameter is missing or wrong.", "Check the algo's parameters.", _REFUSED),
    CodeInfo(442, _E, "The algorithm is not allowed for this order.", "Check type and instrument.", _REFUSED),
    CodeInfo(443, _E, "The algorithm does not exist or does not fit.", "Check the algo's name.", _REFUSED),
    CodeInfo(478, _E, "The contract's parameters contradict its conId.", "Qualify it again.", _REFUSED, True),
    CodeInfo(492, _N, "Market data notice.", verdict=_LIVES),
    CodeInfo(501, _N, "Already connected.", verdict=_LIVES),
    CodeInfo(502, _E, "No connection to TWS.", "Start TWS or the gateway and enable its API port."),
    CodeInfo(503, _E, "TWS is too old.", "Update TWS."),
    CodeInfo(504, _E, "Not connected.", "MATS reconnects by itself."),
    CodeInfo(507, _E, "The socket was closed.", "Often a client id in use twice."),
    CodeInfo(1100, _W, "TWS lost IB's servers.", "No orders until it is back; late fills are still taken."),
    CodeInfo(1101, _W, "TWS is back; market data must be requested again.", "MATS resubscribes and reconciles."),
    CodeInfo(1102, _N, "TWS is back; market data was kept.", "MATS reconciles."),
    CodeInfo(1300, _E, "TWS changed its port.", "Check host and port."),
    CodeInfo(2100, _N, "Account updates were replaced by a new request.", verdict=_LIVES),
    CodeInfo(2101, _W, "Another account is subscribed already.", verdict=_LIVES),
    CodeInfo(
        2102, _W, "The last change is still being processed.", "The order works on as it was; change it again later."
    ),
    CodeInfo(2103, _W, "A market data farm is down.", verdict=_LIVES),
    CodeInfo(2104, _N, "A market data farm is up.", verdict=_LIVES),
    CodeInfo(2105, _W, "The historical data farm is down.", verdict=_LIVES),
    CodeInfo(2106, _N, "The historical data farm is up.", verdict=_LIVES),
    CodeInfo(2107, _N, "The historical data farm sleeps until needed.", verdict=_LIVES),
    CodeInfo(2108, _N, "The market data farm sleeps until needed.", verdict=_LIVES),
    CodeInfo(2109, _N, "«Outside regular hours» is ignored for this order.", verdict=_LIVES),
    CodeInfo(2110, _W, "TWS has no connection to IB.", "No orders until it is back.", _LIVES),
    CodeInfo(2137, _N, "The order crosses an existing position of opposite side.", verdict=_LIVES),
    CodeInfo(2119, _N, "A market data farm is being connected.", verdict=_LIVES),
    CodeInfo(2157, _W, "The security definition farm is down.", verdict=_LIVES),
    CodeInfo(2158, _N, "The security definition farm is up.", verdict=_LIVES),
    CodeInfo(10006, _E, "The parent order is missing.", "Send the parent first.", _REFUSED),
    CodeInfo(10089, _E, "Market data needs a subscription.", "Subscribe with IB.", fails_request=True),
    CodeInfo(10090, _W, "Part of the market data is not subscribed.", verdict=_LIVES),
    CodeInfo(10147, _W, "IB does not find the order to cancel.", "MATS asks for its state."),
    CodeInfo(10148, _W, "The order cannot be cancelled in its state.", "MATS asks for its state."),
    CodeInfo(10149, _W, "IB does not accept the order id.", "MATS asks for its state."),
    CodeInfo(10167, _N, "Delayed market data is shown.", verdict=_LIVES),
    CodeInfo(10186, _E, "The requested market data is not subscribed.", "Subscribe with IB.", fails_request=True),
    CodeInfo(10197, _W, "Another session of this user takes the market data.", "Log out there.", _LIVES),
    CodeInfo(10225, _W, "A bust ended the bars; they are requested again.", verdict=_LIVES),
    CodeInfo(10243, _E, "Fractional sizes are not taken through the API.", "Round the size.", _REFUSED),
    CodeInfo(10244, _E, "A cash quantity is not possible here.", "Give a size.", _REFUSED),
    CodeInfo(10250, _E, "The size is not a multiple of the increment.", "Round the size.", _REFUSED),
    CodeInfo(10268, _E, "«eTradeOnly» is not supported.", "Leave it unset.", _REFUSED),
    CodeInfo(10269, _E, "«firmQuoteOnly» is not supported.", "Leave it unset.", _REFUSED),
    CodeInfo(10270, _E, "«nbboPriceCap» is not supported.", "Leave it unset.", _REFUSED),
    CodeInfo(10326, _W, "The OCA group cannot be changed.", "The order works on as it was."),
    CodeInfo(10327, _W, "The type of the OCA group cannot be changed.", "The order works on as it was."),
    CodeInfo(10340, _E, "An attribute of the order is not supported.", "Leave it unset.", _REFUSED),
    CodeInfo(10341, _W, "The parent cannot be changed.", "The order works on as it was."),
    CodeInfo(10349, _N, "TWS' preset changed the time in force.", verdict=_LIVES),
)
IB_LIST = "IB, TWS API: message codes"
_SEEN = {
    136: "IB, TWS API: message codes; answered for orders that were filled or cancelled meanwhile",
    161: "IB, TWS API: message codes; answered for orders that were filled or cancelled meanwhile",
    202: "IB, TWS API: message codes; every successful cancel comes with it",
    399: "IB, TWS API: message codes; the order works, ib_insync takes it for ValidationError",
    404: "ib_insync issue 328: the order stays live while shares are located",
    2102: "users of TWS: a change that came too soon after the last one",
    2109: "IB, TWS API: message codes; ib_insync takes it for ValidationError",
    10148: "users of TWS: with the state Filled, PendingCancel or Cancelled in its text",
    10147: "ib_insync issue 690: also for orders that were cancelled all the same",
    10349: "not documented; ib_async issues 191 and 217: the order lives",
}
CODES: dict[int, CodeInfo] = {row.code: replace(row, source=_SEEN.get(row.code, IB_LIST)) for row in _ROWS}

CLIENT_ID_IN_USE = 326
UPSTREAM_LOST = frozenset({1100, 2110})
UPSTREAM_BACK = frozenset({1101, 1102})
DATA_LOST, DATA_KEPT = 1101, 1102
BARS_REFUSED = 420


def describe(code: int) -> CodeInfo:
    """Return the table's row; for a code that is not listed a cautious one."""
    row = CODES.get(code)
    if row is not None:
        return row
    if 2100 <= code < 2200:
        return CodeInfo(code, Severity.WARNING, "Notice of TWS.", verdict=OrderVerdict.NOTICE)
    return CodeInfo(code, Severity.ERROR, "Error that MATS does not know.", "Read IB's text.", fails_request=True)


def order_verdict(code: int) -> OrderVerdict:
    """Return what the code says about the order it names."""
    return describe(code).verdict


def fails_request(code: int) -> bool:
    """Tell whether the request that it names will get no other answer."""
    return describe(code).fails_request
