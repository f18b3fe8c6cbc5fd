"""An asyncio loop whose clock is the run's: code that sleeps an hour goes on at once, an hour later.

Owns: callbacks, timers and their order. Leaves: when time moves on (``imperative``, at the moments of the bars). Pure.
Rule: time stands still while anything is ready; timers fire in the order of their moments, of one moment in the order
in which they were set. Nothing outside can wake it: there are no sockets, no processes, no threads; what would go to a
thread (``asyncio.to_thread``) runs at once. So equal runs are equal, step by step.
Units: ``now_ns`` epoch nanoseconds UTC; ``time`` seconds since the run began, kept to the microsecond.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from heapq import heappop, heappush
from typing import Any, NoReturn, TypeVar

from strategies.exceptions import StrategyError

logger = logging.getLogger(__name__)

T = TypeVar("T")
MOST_STEPS = 2_000_000
"""At one moment: who needs more lets no time pass."""

_OUTSIDE = (
    "add_reader", "add_signal_handler", "add_writer", "connect_accepted_socket", "connect_read_pipe",
    "connect_write_pipe", "create_connection", "create_datagram_endpoint", "create_server", "create_unix_connection",
    "create_unix_server", "getaddrinfo", "getnameinfo", "sendfile", "sock_accept", "sock_connect", "sock_recv",
    "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendfile", "sock_sendto",
    "start_tls", "subprocess_exec", "subprocess_shell",
)  # fmt: skip


class Call:
    """One callback that waits; what asyncio calls a handle."""

    __slots__ = ("_args", "_callback", "_cancelled", "context")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None) -> None:
        self._callback, self._args = callback, args
        self.context = copy_context() if context is None else context
        self._cancelled = False

    def cancel(self) -> None:
        """Forget it."""
        self._cancelled = True
        self._args = ()

    def cancelled(self) -> bool:
        """Tell whether it was forgotten."""
        return self._cancelled


class Timer(Call):
    """A callback that waits for a moment."""

    __slots__ = ("_when",)

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> None:
        super().__init__(callback, args, context)
        self._when = when

    def when(self) -> float:
        """Return its moment on the loop's clock, in seconds."""
        return self._when


class VirtualLoop(asyncio.AbstractEventLoop):
    """See the module. One thread, which also calls ``run_through``."""

    def __init__(self, start_ns: int) -> None:
        self.now_ns = self._start_ns = start_ns
        self.on_overrun: Callable[[Context], None] | None = None
        """Told who lets no time pass, by the context of the callback; the rest of the moment's calls is kept."""
        self._ready: deque[Call] = deque()
        self._timers: list[tuple[int, int, Timer]] = []
        self._sequence = 0
        self._running = self._closed = False

    # -- the run's side

    def run_through(self, until_ns: int) -> None:
        """Do what is ready, and all that falls due up to a moment, that moment included; then stand at it."""
        if until_ns < self.now_ns:
            return
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        self._running = True
        try:
            self._run_ready()
            timers, ready = self._timers, self._ready
            while timers and timers[0][0] <= until_ns:
                at = timers[0][0]
                self.now_ns = max(at, self.now_ns)
                while timers and timers[0][0] <= self.now_ns:
                    timer = heappop(timers)[2]
                    if not timer._cancelled:
                        ready.append(timer)
                self._run_ready()
        finally:
            self._running = False
            asyncio._set_running_loop(before)
        self.now_ns = max(until_ns, self.now_ns)

    def _run_ready(self) -> None:
        ready, steps = self._ready, 0
        while ready:
            call = ready.popleft()
            if call._cancelled:
                continue
            steps += 1
            if steps > MOST_STEPS and self.on_overrun is not None:
                steps = 0
                ready.appendleft(call)  # to be dropped or done with the rest
                self.on_overrun(call.context)
                continue
            try:
                call.context.run(call._callback, *call._args)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - as asyncio: a callback's trouble is its own, sys.exit too
                self.call_exception_handler({"message": "A callback of a strategy failed.", "exception": error})

    def forget(self, belongs: Callable[[Context], bool]) -> None:
        """Drop what waits in some contexts: their tasks stand still from now on."""
        kept = [call for call in self._ready if not belongs(call.context)]
        self._ready.clear()
        self._ready.extend(kept)
        for _, _, timer in self._timers:
            if belongs(timer.context):
                timer.cancel()

    @property
    def next_ns(self) -> int | None:
        """Return the moment of the next timer; None when nothing waits for one."""
        return self._timers[0][0] if self._timers else None

    # -- what asyncio asks of a loop

    def time(self) -> float:
        """Return the seconds since the run began."""
        return (self.now_ns - self._start_ns) / 1e9

    # Slimmer handles than asyncio's: half of what a wake-up costs.
    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        """Do something at this moment, after what is ready already."""
        call = Call(callback, args, context)
        self._ready.append(call)
        return call

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        """Do something after some seconds."""
        return self._at(self.now_ns + round(max(delay, 0.0) * 1e6) * 1000, callback, args, context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        """Do something at a moment of this clock."""
        return self._at(self._start_ns + round(when * 1e6) * 1000, callback, args, context)

    def _at(self, at_ns: int, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None) -> Timer:
        timer = Timer((at_ns - self._start_ns) / 1e9, callback, args, context)
        self._sequence += 1
        heappush(self._timers, (at_ns, self._sequence, timer))
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        """Start a coroutine."""
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call a function at once: a thread would come back at a moment that nobody can repeat."""
        answer = self.create_future()
        try:
            answer.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it belongs to who awaits it, as from a thread
            answer.set_exception(error)
        return answer

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what nobody awaits."""
        if self._closed:
            return  # tasks of strategies that never ended; the run told of these strategies
        logger.error("%s", context.get("message"), exc_info=context.get("exception"))

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what nobody awaits."""
        self.call_exception_handler(context)

    def get_debug(self) -> bool:
        """Tell that asyncio's checks for slow callbacks are off: time stands still in them."""
        return False

    def set_debug(self, enabled: bool) -> None:
        """Ignore it."""

    def is_running(self) -> bool:
        """Tell whether a callback is being run."""
        return self._running

    def is_closed(self) -> bool:
        """Tell whether the run is over."""
        return self._closed

    def close(self) -> None:
        """Forget everything that waits."""
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    async def shutdown_asyncgens(self) -> None:
        """Do nothing: generators end with the run."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncio's
        """Do nothing: there is none."""


def _outside(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise StrategyError(
            f"A strategy in a backtest called the loop's {name}: there is no network, no process and no signal in the "
            "past; read what it needs before the run.",
            code="outside_the_run",
        )

    return refuse


for _name in _OUTSIDE:
    setattr(VirtualLoop, _name, _outside(_name))
