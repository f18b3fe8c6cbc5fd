"""Start engines quickly: import everything once, then fork one process per engine and SIGKILL it for real.

Importing Django, pandas and ArcticDB takes two seconds; a proof of two hundred kills would spend them two hundred
times. Nothing is opened before the fork: ArcticDB and SQLite must not cross one.

Protocol: one JSON object per line on stdin, ``{"env": {…}, "args": […], "prepare": ["module:function", …]}`` forks,
calls the functions (they may change what the engine is built of) and runs ``run_engine``; answers on stdout:
``{"pid": n}``, later ``{"pid": n, "status": wait status}``.
"""

from __future__ import annotations

import importlib
import json
import os
import selectors
import signal
import sys
import traceback

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mats_site.settings")


def run_child(spec: dict[str, object]) -> None:
    """Become the engine; never returns."""
    code = 1
    try:
        os.setsid()
        log = os.open(os.path.join(os.environ["MATS_HOME"], "engine.out"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        environment = spec.get("env", {})
        assert isinstance(environment, dict)
        os.environ.update(environment)
        from strategies import crashpoints

        importlib.reload(crashpoints)  # the variable is read at import; reload keeps the module's functions alive
        from django.core.management import call_command

        prepare(spec.get("prepare", []))
        args = spec.get("args", [])
        assert isinstance(args, list)
        call_command("run_engine", *args)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:  # noqa: BLE001 - the child's border: its traceback goes to its log
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def prepare(names: object) -> None:
    """Call functions named ``module:function``."""
    assert isinstance(names, list)
    for name in names:
        module, _, function = name.partition(":")
        getattr(importlib.import_module(module), function)()


def reap(pidfd: int, pid: int) -> None:
    """Collect one ended child and report how it ended."""
    os.close(pidfd)
    _, status = os.waitpid(pid, 0)
    print(json.dumps({"pid": pid, "status": status}), flush=True)


def end_all(pids: list[int]) -> None:
    """End engines that nobody waits for any more, as when a test is interrupted."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def serve() -> None:
    """Fork on request and reap, in one thread: a fork must not copy another thread's locks."""
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin.buffer, selectors.EVENT_READ, None)
    while True:
        for key, _ in selector.select():
            if key.data is not None:
                selector.unregister(key.fd)
                reap(key.fd, key.data)
                continue
            line = sys.stdin.buffer.readline()
            if not line:
                end_all([one.data for one in selector.get_map().values() if one.data is not None])
                return
            pid = os.fork()
            if pid == 0:
                run_child(json.loads(line))
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
            print(json.dumps({"pid": pid}), flush=True)


def main() -> None:
    """Import everything an engine needs, then serve forks until stdin closes."""
    import django

    django.setup()
    import arcticdb  # noqa: F401
    import pandas as pd  # noqa: F401

    import trading.engine.manager
    import trading.management.commands.run_engine  # noqa: F401

    print(json.dumps({"ready": True}), flush=True)
    serve()


if __name__ == "__main__":
    main()
