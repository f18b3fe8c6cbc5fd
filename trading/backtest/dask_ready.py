"""Imported once in the process that local workers are forked from: what each of them would else import by itself.

Their priority is lowered too: an engine that trades on this machine comes first. They hear no Ctrl-C: the study's own
process ends them.
"""

import os
import signal
from contextlib import suppress

import distributed  # noqa: F401 - to be there at the fork

from trading.backtest.dask_worker import become_ready

NICE = 10

signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
with suppress(OSError):
    os.nice(NICE)
become_ready()

from trading.backtest import compiled_figures, compiled_result  # noqa: E402, F401 - the compiler, which takes seconds
