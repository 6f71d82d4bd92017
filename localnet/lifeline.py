"""Runs a Python module that must not outlive its parent: `python -m localnet.lifeline MODULE ...`.

The parent holds the writing end of this process's stdin. When the parent ends, however it ends,
the pipe closes; then the module gets SIGTERM, and after a grace the whole process group SIGKILL. A
thread does it, so that it also works when the module's event loop hangs. The module itself knows
nothing of all this.
"""

import os
import runpy
import signal
import sys
import threading
import time
from typing import Final

GRACE_S: Final = 10.0
"""From SIGTERM to SIGKILL after the parent has gone."""


def tie_to_stdin() -> None:
    """Start the thread that waits for the end of stdin. The caller leads its process group."""
    # A copy, because stdin itself is given to nobody: what the module starts must not hold it.
    descriptor = os.dup(0)
    os.set_inheritable(descriptor, False)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    threading.Thread(target=_watch, args=(descriptor,), name="lifeline", daemon=True).start()


def _watch(descriptor: int) -> None:
    while os.read(descriptor, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> None:
    """Tie this process to its stdin and become the module."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m localnet.lifeline MODULE [ARGUMENT]...")
    tie_to_stdin()
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
