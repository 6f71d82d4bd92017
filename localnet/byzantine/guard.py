"""Behaviours of somebody's own may be broken: that is told as theirs, and not as a bug in Rota.

The behaviours of this package are not watched: an error in one of them is a bug.
"""

import re
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import UnionType
from typing import Any, Final, get_args

from consensus.effects import Send
from localnet.byzantine.behaviour import Behaviour, Tools
from node.events import NodeEffect, NodeEvent
from node.exit_codes import ExitCode, OperatorError

FOREIGN: Final = (Exception, SystemExit)
"""What somebody's own code may raise: its `exit()` would end a run as if nothing had been found."""

PACKAGE: Final = __name__.rpartition(".")[0]


class BehaviourFailedError(OperatorError):
    """Somebody's own behaviour raised, or returned what it may not; the message says where."""

    code = "byz.behaviour_failed"
    exit_code = ExitCode.CONFIG

    def __init__(self, message: str) -> None:
        super().__init__(message, advice="mend your behaviour; docs/byzantine.md has an example")


def find_failure(stderr: str) -> BehaviourFailedError | None:
    """The failure that a process told of on its stderr before it ended."""
    found = re.search(rf"^error: (.*) \[{BehaviourFailedError.code}\]$", stderr, re.MULTILINE)
    return None if found is None else BehaviourFailedError(found[1])


def describe_failure(error: BaseException, path: Path) -> str:
    """`crash.py:26 in Grudge.send: ZeroDivisionError: …`: the innermost line of the behaviour's own
    file that an error went through."""
    what = f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path.name}:{error.lineno}: {type(error).__name__}: {error.msg}"
    own = [
        f"{path.name}:{line} in {frame.f_code.co_qualname}".removesuffix(" in <module>")
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename == str(path)
    ]
    return f"{own[-1] if own else path.name}: {what}"


def create(kind: type[Behaviour], tools: Tools) -> Behaviour:
    """Make a behaviour. Raises `BehaviourFailedError`."""
    if _is_of_package(kind):
        return kind(tools)
    try:
        return kind(tools)
    except FOREIGN as error:
        # It is somebody's own class: whatever it raises is for them to mend.
        raise BehaviourFailedError(describe_failure(error, _find_file(kind))) from error


def guard(behaviour: Behaviour) -> "Behaviour | Guarded":
    """The behaviour, watched if it is somebody's own."""
    return behaviour if _is_of_package(type(behaviour)) else Guarded(behaviour)


class Guarded:
    """A behaviour whose errors become `BehaviourFailedError`, as does what it may not return."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._path = _find_file(type(behaviour))

    def bend(self, now_ms: int, effect: NodeEffect) -> Iterable[NodeEffect]:
        """As `Behaviour.bend`."""
        method = self._behaviour.bend
        if isinstance(effect, Send) and type(self._behaviour).bend is Behaviour.bend:
            return self._collect(self._behaviour.send, now_ms, effect)
        return self._collect(method, now_ms, effect)

    def hear(self, now_ms: int, event: NodeEvent) -> NodeEvent | None:
        """As `Behaviour.hear`."""
        method = self._behaviour.hear
        heard: NodeEvent | None = self._call(method, now_ms, event)
        if heard is not None and not isinstance(heard, _kinds(NodeEvent)):
            raise BehaviourFailedError(
                f"{self._place(method)}: returned {_name(heard)}, which is no event"
            )
        return heard

    def volunteer(self, now_ms: int, event: NodeEvent) -> Iterable[NodeEffect]:
        """As `Behaviour.volunteer`."""
        return self._collect(self._behaviour.volunteer, now_ms, event)

    def release(self, now_ms: int) -> Iterable[NodeEffect]:
        """As `Behaviour.release`."""
        return self._collect(self._behaviour.release, now_ms)

    def _collect(self, method: Callable[..., Any], *arguments: Any) -> list[NodeEffect]:
        found = self._call(method, *arguments)
        if not isinstance(found, Iterable):
            raise BehaviourFailedError(
                f"{self._place(method)}: returned {_name(found)}, which is no tuple of effects"
            )
        effects = self._call(list, found)
        for effect in effects:
            if not isinstance(effect, _kinds(NodeEffect)):
                raise BehaviourFailedError(
                    f"{self._place(method)}: returned {_name(effect)}, which is no effect"
                )
        return list(effects)

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return method(*arguments)
        except FOREIGN as error:
            # It is somebody's own code: whatever it raises is for them to mend.
            raise BehaviourFailedError(describe_failure(error, self._path)) from error

    def _place(self, method: Callable[..., Any]) -> str:
        code = getattr(method, "__func__", method).__code__
        return f"{Path(code.co_filename).name}:{code.co_firstlineno} in {code.co_qualname}"


def _is_of_package(kind: type[Behaviour]) -> bool:
    return kind.__module__.startswith(f"{PACKAGE}.")


def _find_file(kind: type[Behaviour]) -> Path:
    return Path(getattr(sys.modules.get(kind.__module__), "__file__", None) or kind.__module__)


def _kinds(union: UnionType) -> tuple[type, ...]:
    return get_args(union)


def _name(value: object) -> str:
    return "None" if value is None else type(value).__name__
