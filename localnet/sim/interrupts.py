"""Ends long work at Ctrl-C or SIGTERM between two of its results, so that those are kept."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, TypeVar

from node.exit_codes import ExitCode

T = TypeVar("T")

EXIT_CODES: Final = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
}


class _Stopped(BaseException):
    """No `Exception`: a run takes those for findings."""


class Interruption:
    """While it is entered, the signals end what `until` hands out and what `attempt` does, and
    nothing else."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        """The first signal that came."""
        self._is_pending = False
        self._is_open = False
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in EXIT_CODES:
            self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> ExitCode | None:
        """What to exit with if nothing graver was found; None if no signal came."""
        return None if self.received is None else EXIT_CODES[self.received]

    def until(self, items: Iterator[T]) -> Iterator[T]:
        """The items, until a signal comes; whoever makes them is told to end (`close`), and what
        was handed out is the caller's to finish undisturbed."""
        try:
            while True:
                with self._listening():
                    item = next(items, self)
                if isinstance(item, Interruption):
                    return
                yield item
        except _Stopped:
            return
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    def attempt(self, work: Callable[[], Any]) -> bool:
        """Do something until it is done or a signal comes; returns whether it was done."""
        try:
            with self._listening():
                work()
        except _Stopped:
            return False
        return True

    @contextmanager
    def _listening(self) -> Iterator[None]:
        self._is_open = True
        try:
            self._stop_if_pending()
            yield
        finally:
            self._is_open = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.received = self.received or signal.Signals(number)
        self._is_pending = True
        if self._is_open:
            self._stop_if_pending()

    def _stop_if_pending(self) -> None:
        if self._is_pending:
            self._is_pending = self._is_open = False
            raise _Stopped
