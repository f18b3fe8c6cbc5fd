"""Ask IB again for the streams that it lost: after 1101 nothing comes any more and nobody says so.

Owns: what a connection has subscribed to, as it was asked. Leaves: those that fall silent although IB kept them
(``silence``), streams after a reconnect (whoever made them, in
``on_reconnected``), the master's own (``market.recorder``).
Rule: the same request under the same id, so that the lists and tickers that a strategy holds go on. Same loop only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ib_async import IB

from trading.ib import codes
from trading.ib.silence import Stream

logger = logging.getLogger(__name__)

_STREAMS = {
    "reqMktData": "cancelMktData",
    "reqRealTimeBars": "cancelRealTimeBars",
    "reqHistoricalData": "cancelHistoricalData",
    "reqTickByTickData": "cancelTickByTickData",
}
_SNAPSHOT, _KEEP_UP_TO_DATE = 2, 7  # where, after the id, stand the flags that tell a stream from a single answer


class Subscriptions:
    """The streams of one connection; survives its reconnects."""

    def __init__(self, ib: IB) -> None:
        self._asked: dict[tuple[str, int], tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        client: Any = ib.client
        self._cancels = {request: getattr(client, cancel) for request, cancel in _STREAMS.items()}
        for request, cancel in _STREAMS.items():
            setattr(client, request, self._remember(request, getattr(client, request)))
            setattr(client, cancel, self._forget(request, getattr(client, cancel)))
        ib.disconnectedEvent += self._asked.clear
        ib.errorEvent += self._on_error

    def _remember(self, name: str, request: Callable[..., Any]) -> Callable[..., Any]:
        def ask(req_id: int, *args: Any) -> None:
            if _is_stream(name, args):
                self._asked[name, req_id] = request, args
            request(req_id, *args)

        return ask

    def _forget(self, name: str, cancel: Callable[..., Any]) -> Callable[..., Any]:
        def end(req_id: int, *args: Any) -> None:
            self._asked.pop((name, req_id), None)
            cancel(req_id, *args)

        return end

    def current(self) -> dict[tuple[str, int], Stream]:
        """Return what is subscribed now, by request and its id."""
        return {key: Stream(args[0], frozenset({key[1]})) for key, (_, args) in self._asked.items()}

    def renew(self, key: tuple[str, int]) -> None:
        """End a subscription at IB and ask for it again under its id; one that is gone stays so."""
        known = self._asked.get(key)
        if known is not None:
            (name, number), (request, args) = key, known
            self._cancels[name](number)
            request(number, *args)

    def _on_error(self, req_id: int, code: int, text: str, contract: Any) -> None:
        if code != codes.DATA_LOST or not self._asked:
            return
        logger.warning("market data lost at IB, asking again streams=%s", len(self._asked))
        for (_, number), (request, args) in self._asked.items():
            request(number, *args)


def _is_stream(name: str, args: tuple[Any, ...]) -> bool:
    """Tell streams from single answers; ``args`` follow the request's id."""
    if name == "reqMktData":
        return not args[_SNAPSHOT]
    if name == "reqHistoricalData":
        return bool(args[_KEEP_UP_TO_DATE])
    return True
