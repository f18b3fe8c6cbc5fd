"""Who runs the trials of a study: this process, processes of this machine, or a Dask cluster.

Owns: handing trials out, taking figures back as they come, what becomes of a trial whose process dies.
Leaves: a trial (``trials``), their order and meaning (``sweep``).
Rule: what comes back is told by the trial's number, so that the order of arrival changes nothing. The bars travel once
to each process. A local cluster listens on 127.0.0.1 alone and takes nobody's word without its own certificate: who
may talk to a scheduler may run code.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from typing import Any, Protocol

from strategies.exceptions import ConfigError, MatsError, TransientError
from trading.backtest.trials import QUIET, Figures, Kit, Task, TrialRunner

logger = logging.getLogger(__name__)

Told = Callable[[int, Figures], None]
ShouldStop = Callable[[], bool]
LOOK_EVERY_S = 0.2
CONNECT_S = 10.0
NO_WORKERS_S = 300.0
CLOSE_S = 5.0
_MOST_IN_CHUNK = 16


class Pool(Protocol):
    """Runs trials."""

    def run(self, tasks: Sequence[Task], told: Told, should_stop: ShouldStop) -> bool:
        """Run trials, tell each one's figures as they come; False when it was stopped before the last."""


@contextmanager
def pool_of(kit: Kit, runner: TrialRunner, workers: int | None, scheduler: str = "") -> Iterator[Pool]:
    """Return who runs the trials: ``scheduler``'s cluster, so many local processes, or with 0 this one.

    Raises: ConfigError (no_scheduler) when there is none at that address.
    """
    if scheduler:
        with _remote(scheduler) as client, _OnDask(client, kit) as pool:
            yield pool
        return
    count = (os.cpu_count() or 1) if workers is None else workers
    if count == 0:
        with _quiet(*QUIET):  # what fails is in the table
            yield _Here(runner)
        return
    with _local(count) as client, _OnDask(client, kit, count) as pool:
        yield pool


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep what these say below an error out of the log."""
    loggers = [logging.getLogger(name) for name in names]
    before = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for each, level in zip(loggers, before, strict=True):
            each.setLevel(level)


class _Here:
    def __init__(self, runner: TrialRunner) -> None:
        self._bench = runner

    def run(self, tasks: Sequence[Task], told: Told, should_stop: ShouldStop) -> bool:
        for task in tasks:
            if should_stop():
                return False
            figures = self._bench.figures(task, should_stop)
            if figures.cancelled:
                return False
            told(task.number, figures)
        return True


@contextmanager
def _local(workers: int) -> Iterator[Any]:
    import dask
    from distributed import Client, LocalCluster
    from distributed.security import Security

    # Nobody is given a second worker to kill; the machine's limits hold, not Dask's own, which pause workers for good;
    # workers are forked from one process that has imported what they need; no page tells of them.
    config = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        "distributed.worker.multiprocessing-method": "forkserver",
        "distributed.admin.tick.limit": "1h",
    }
    _start_forkserver()
    with _quiet("distributed"), dask.config.set(config):
        cluster = LocalCluster(
            n_workers=0,
            processes=True,
            threads_per_worker=1,
            dashboard_address=None,
            host="127.0.0.1",
            memory_limit=0,
            security=Security.temporary(),
            silence_logs=logging.CRITICAL,
        )
        try:
            with Client(cluster) as client:
                cluster.scale(workers)  # they come while the first trials wait: a wish to stop is heard meanwhile
                yield client
        finally:
            with suppress(TimeoutError):  # one that is still starting is waited for no longer; it ends with us
                cluster.close(timeout=CLOSE_S)


def _start_forkserver() -> None:
    """Start the process that workers are forked from; a Ctrl-C at the terminal is the study's to hear, not theirs."""
    forkserver.set_forkserver_preload(["trading.backtest.dask_ready"])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _remote(address: str) -> Iterator[Any]:
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_S)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"No Dask scheduler answers at {address}: {error}", code="no_scheduler") from error
    with client:
        yield client


class _OnDask:
    """Trials on the workers of a client's cluster."""

    def __init__(self, client: Any, kit: Kit, expected: int = 1) -> None:
        self._client, self._kit, self._expected = client, kit, expected
        self._seen_at = time.monotonic()
        self._running: dict[Any, list[Task]] = {}
        self._serial = 0

    def __enter__(self) -> _OnDask:
        # A plugin, not scattered data: a worker that is started anew after a death is given the bars again.
        from trading.backtest.dask_worker import StudyPlugin

        try:
            self._client.register_plugin(StudyPlugin(self._kit), name=self._kit.key)
        except MatsError:
            raise
        except Exception as error:
            raise ConfigError(
                f"The workers cannot take the study: {error}. They and the scheduler must be able to import MATS: "
                "start them with its folder in PYTHONPATH.",
                code="bad_workers",
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._client.cancel(list(self._running), force=True)
        self._client.unregister_worker_plugin(self._kit.key)

    def run(self, tasks: Sequence[Task], told: Told, should_stop: ShouldStop) -> bool:
        """Run chunks side by side, then one by one what was on a worker that died: whose fault it was shows alone."""
        from distributed import wait

        waiting, suspects, is_alone = _chunks(tasks, max(self._workers(), self._expected)), list[Task](), False
        while waiting or suspects or self._running:
            if should_stop():
                return False
            if not waiting and not self._running:
                waiting, is_alone = [[suspects.pop(0)]], True
            while waiting and len(self._running) < max(self._workers(), 1):  # what waits at a worker would die with it
                self._send(waiting.pop(0))
            try:
                done = wait(list(self._running), timeout=LOOK_EVERY_S, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                continue
            for future in sorted(done, key=lambda one: one.key):
                suspects += self._take(future, told, is_alone)
        return True

    def _workers(self) -> int:
        """Return how many workers there are.

        Raises: TransientError (no_workers) when there was none for long.
        """
        count, now = len(self._client.scheduler_info(n_workers=-1)["workers"]), time.monotonic()
        if count:
            self._seen_at = now
        elif now - self._seen_at > NO_WORKERS_S:
            raise TransientError(f"No worker was there for {NO_WORKERS_S:g} s.", code="no_workers")
        return count

    def _send(self, chunk: list[Task]) -> None:
        from trading.backtest.dask_worker import figures_of

        self._serial += 1
        key = f"{self._kit.key}-{self._serial:06d}"
        packed = pickle.dumps(chunk)  # by us: the scheduler would unpack it, and is no process of MATS
        self._running[self._client.submit(figures_of, self._kit.key, packed, key=key, pure=False)] = chunk

    def _take(self, future: Any, told: Told, is_alone: bool) -> list[Task]:
        """Tell a chunk's figures; return those that must be tried again because their worker died."""
        from distributed.scheduler import KilledWorker

        chunk = self._running.pop(future)
        try:
            answers = future.result()
        except KilledWorker:
            if not is_alone:
                return chunk
            told(chunk[0].number, Figures(error="Its process died: it crashed, or was killed for want of memory."))
            return []
        except Exception as error:  # what the cluster says in its own words
            if future.status != "error":
                raise TransientError(f"The Dask cluster lost the work: {error}", code="cluster_lost") from error
            logger.warning("trials failed on a worker numbers=%s", [task.number for task in chunk], exc_info=True)
            text = f"The cluster could not run it: {' '.join(str(error).split())}"
            for task in chunk:
                told(task.number, Figures(error=text))
            return []
        for number, figures in answers:
            told(number, figures)
        return []


def _chunks(tasks: Sequence[Task], workers: int) -> list[list[Task]]:
    """Return the tasks in chunks: larger ones where there are many, so that quick trials do not wait for messages."""
    size = min(max(len(tasks) // (workers * 16), 1), _MOST_IN_CHUNK)
    return [list(tasks[at : at + size]) for at in range(0, len(tasks), size)]
