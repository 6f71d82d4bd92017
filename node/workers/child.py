"""A worker process's own end: standard streams as framed pipes, signals, and the parent's end."""

import faulthandler
import os
import signal
import sys
from typing import Final

from node.framing import LENGTH_SIZE_BYTES, encode_length

READ_AHEAD_BYTES: Final = 64 << 10
"""Read ahead for small frames; larger ones are read straight into place."""

IGNORED_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""They reach the whole process group; only the node decides what they mean."""


class ParentGoneError(Exception):
    """The node closed the pipe or died: the regular end of a worker."""


class ParentPipe:
    """Frames from and to the node, blocking."""

    def __init__(self) -> None:
        """Take stdin and stdout over. What anything else prints goes to stderr from now on, where
        it cannot be taken for a frame."""
        faulthandler.enable()
        for number in IGNORED_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self._input = os.fdopen(os.dup(0), "rb", READ_AHEAD_BYTES)
        self._output = os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(sys.stderr.fileno(), 1)

    def receive(self) -> bytes:
        """The next frame. Raises `ParentGoneError`."""
        return self._read(int.from_bytes(self._read(LENGTH_SIZE_BYTES), "big"))

    def send(self, frame: bytes) -> None:
        """Send a frame. Raises `ParentGoneError`."""
        pending = [memoryview(encode_length(len(frame))), memoryview(frame)]
        try:
            while pending:
                # Unbuffered, so that a large output is not copied once more on its way.
                written = os.writev(self._output, pending)
                while pending and written >= len(pending[0]):
                    written -= len(pending.pop(0))
                if pending:
                    pending[0] = pending[0][written:]
        except BrokenPipeError as error:
            raise ParentGoneError from error

    def close(self) -> None:
        """Close this process's copies of both ends, without the other process's noticing."""
        os.close(self._input.fileno())
        os.close(self._output)

    def _read(self, size_bytes: int) -> bytes:
        data = self._input.read(size_bytes)
        if len(data) < size_bytes:
            raise ParentGoneError
        return data
