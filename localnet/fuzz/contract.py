"""What a decoder of outside bytes owes to any input, and the judgement of one input.

A decoder returns a value, which re-encodes to the very bytes that it came from, or it raises one
of the errors that it declares. It never raises anything else, and its time and memory stay in
proportion to the input, whatever the input claims.
"""

import re
import resource
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec import Struct

import node
from localnet.fuzz.corpus import Corpus
from localnet.fuzz.trees import MSGPACK, Format
from localnet.verdicts import Verdict

TIME_MAX_S: Final = 1.0
TIME_MAX_S_PER_BYTE: Final = 10e-6
"""Of processor time: a hundred times what the slowest decoder takes."""

MEMORY_MAX_BYTES: Final = 96 << 20
MEMORY_MAX_BYTES_PER_BYTE: Final = 256
"""By which one input may raise the process's peak. A list of tiny values takes 60 bytes a byte."""

SIZE_MAX_BYTES: Final = 1 << 17
"""Inputs made here; that larger ones are refused is for the tests of each bound."""

ROOT: Final = Path(node.__file__).parent.parent


class Kind(StrEnum):
    """What an input came to."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    """By an error that is declared."""
    ESCAPED = "escaped"
    """By any other error."""
    CHANGED = "changed"
    """Accepted, but the value stands for other bytes."""
    SLOW = "slow"
    HUNGRY = "hungry"
    """It took more memory than its size explains."""
    DIED = "died"
    """It ended the process."""
    VIOLATION = "violation"
    """A cluster broke one of its rules."""


FINDINGS: Final = frozenset(set(Kind) - {Kind.ACCEPTED, Kind.REJECTED})


class Result(Struct, frozen=True):
    """The judgement of one input."""

    kind: Kind
    code: str
    """The error's stable code, or its class; empty if there is none."""
    where: str = ""
    """`file.py:line` of our own code that raised it."""
    detail: str = ""
    verdict: Verdict = Verdict.PASS

    @property
    def is_finding(self) -> bool:
        """Does it break the contract?"""
        return self.kind in FINDINGS

    @property
    def signature(self) -> tuple[str, str, str, str]:
        """What makes two results the same; numbers in the words do not count."""
        return (self.kind, self.code, self.where, _NUMBERS.sub("#", self.detail)[:80])

    @property
    def fault(self) -> tuple[str, str, str]:
        """What makes two findings one fault."""
        return (self.kind, self.code, self.where)


_NUMBERS: Final = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8,}|\d+")


class ContractError(Exception):
    """A value was accepted that the contract forbids; the message says why."""


class RefusedError(Exception):
    """A decoder answered with a code instead of an exception."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Attack(NamedTuple):
    """One run of a whole cluster."""

    data: bytes
    """The input that repeats it."""
    executions: int
    """Frames."""
    accepted: int
    rejected: dict[str, int]
    error: Exception | None
    """What was found."""


@dataclass(frozen=True)
class Target:
    """One decoder."""

    name: str
    kinds: tuple[str, ...]
    """Whose corpus entries are bent; `message.*` stands for all that begin so."""
    run: Callable[[bytes], Any]
    """Decode. What it does to the value besides (validate, re-encode) it does inside. It may return
    words: inputs with new ones are kept."""
    errors: tuple[type[Exception], ...]
    """The only ones it may raise, besides `ContractError`."""
    form: Format = MSGPACK
    types: tuple[str, ...] = ()
    """Types by the names under which the sources decode them."""
    size_max_bytes: int = SIZE_MAX_BYTES
    time_max_s: float = TIME_MAX_S
    memory_max_bytes: int = MEMORY_MAX_BYTES
    weight: int = 1
    """An execution costs about so many hundredths of a millisecond; fewer are made of dear ones."""
    attack: Callable[[int, Corpus], Attack] | None = None
    """How inputs are made, where they are no bent entries of the corpus."""
    shrink: Callable[[bytes, Callable[[bytes], bool]], bytes] | None = None
    """How they are cut down, likewise."""


def find_target(targets: Sequence[Target], name: str) -> Target:
    """The target of a name. Raises `KeyError`."""
    return {each.name: each for each in targets}[name]


def judge(target: Target, data: bytes) -> Result:
    """Give one input to a target. What is slow or hungry is so twice: a pause of the machine or a
    first import is not the input's fault."""
    result, time_s, memory_bytes = _measure(target, data)
    if result.is_finding:
        return result
    time_max_s = target.time_max_s + len(data) * TIME_MAX_S_PER_BYTE
    if time_s > time_max_s:
        _, again_s, _ = _measure(target, data)
        if again_s > time_max_s:
            detail = f"{again_s:.1f} s for {len(data)} bytes"
            return Result(Kind.SLOW, "time", "", detail, Verdict.CRASH)
    if memory_bytes > target.memory_max_bytes + len(data) * MEMORY_MAX_BYTES_PER_BYTE:
        detail = f"{memory_bytes >> 20} MiB for {len(data)} bytes"
        return Result(Kind.HUNGRY, "memory", "", detail, Verdict.CRASH)
    return result


def _measure(target: Target, data: bytes) -> tuple[Result, float, int]:
    start_bytes = _peak_bytes()
    start_s = time.thread_time()
    result = _judge_value(target, data)
    return result, time.thread_time() - start_s, _peak_bytes() - start_bytes


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _judge_value(target: Target, data: bytes) -> Result:
    try:
        said = target.run(data)
    except target.errors as error:
        return Result(Kind.REJECTED, name_error(error), find_line(error), str(error)[:200])
    except ContractError as error:
        # Two byte strings for one value: two nodes may differ.
        where, detail = find_line(error), str(error)[:200]
        return Result(Kind.CHANGED, "contract", where, detail, Verdict.SAFETY)
    except Exception as error:
        # Whatever else a decoder raises is the finding that this is for.
        return judge_error(error)
    return Result(Kind.ACCEPTED, "", detail=said if isinstance(said, str) else "")


def judge_error(error: Exception) -> Result:
    """What an error is that no contract has."""
    violation = getattr(error, "violation", None)
    if violation is not None:
        oracle, detail = violation.oracle, violation.detail[:300]
        return Result(Kind.VIOLATION, oracle, "", detail, violation.verdict)
    name = type(error).__name__
    detail = f"{name}: {error}"[:200]
    return Result(Kind.ESCAPED, name, find_line(error), detail, Verdict.CRASH)


def name_error(error: BaseException) -> str:
    """Its stable code, or the name of its class."""
    code = getattr(error, "code", None)
    return str(code) if code else type(error).__name__


def find_line(error: BaseException) -> str:
    """Where in our own sources it was raised: the innermost line of the product."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and "localnet/fuzz" not in frame.filename:
            relative = path.relative_to(ROOT)
            if relative.parts[0] != ".venv":
                return f"{relative}:{frame.lineno}"
    return ""


def require(holds: bool, why: str) -> None:
    """Raise `ContractError` unless it holds."""
    if not holds:
        raise ContractError(why)
