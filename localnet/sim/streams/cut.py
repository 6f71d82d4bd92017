"""Cuts a failing stream down: whole blocks first, then what is in them, then single instructions.

Delta debugging, as for schedules (`localnet.sim.shrink`). A smaller stream counts only if the same
oracle fails on it in the same words but for their numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from msgspec.structs import replace

from crypto.codec import encode
from engine.block import BlockInput
from engine.instructions import Bundle
from engine.schedule import decode_bundle
from localnet.sim.shrink import leave_one_out, name_failure
from localnet.sim.streams.stream import Stream, cut_blocks, run_stream
from localnet.sim.violation import Violation

T = TypeVar("T")

RUNS_MAX: Final = 300
"""Streams that one cutting may run; what it has by then is its result."""

_PARTS: Final = (
    "envelopes",
    "deposits",
    "withdrawals_settled",
    "session_grants",
    "session_revocations",
)


class Cut(NamedTuple):
    """A smaller stream, and what fails on it."""

    stream: Stream
    violation: Violation
    runs: int


class _Cutter:
    def __init__(self, stream: Stream, violation: Violation, runs_max: int) -> None:
        self.best = stream
        self.violation = violation
        self.runs = 0
        self.runs_max = runs_max

    def accept(self, candidate: Stream) -> bool:
        """Does the same fail on it? Then it is the best so far, up to where it fails."""
        if self.runs >= self.runs_max:
            return False
        self.runs += 1
        violation, blocks = run_stream(candidate)
        if violation is None or name_failure(violation) != name_failure(self.violation):
            return False
        self.best = cut_blocks(candidate, candidate.blocks[:blocks])
        self.violation = violation
        return True

    def reduce(self, items: Sequence[T], keep: Callable[[list[T]], Stream]) -> None:
        """Leave out ever smaller pieces of a list, as long as anything can be left out."""
        rest, pieces = list(items), 1
        while rest and self.runs < self.runs_max:
            for fewer in leave_one_out(rest, pieces):
                if self.accept(keep(fewer)):
                    rest, pieces = fewer, max(pieces - 1, 1)
                    break
            else:
                if pieces >= len(rest):
                    return
                pieces = min(2 * pieces, len(rest))


def cut(stream: Stream, violation: Violation, runs_max: int = RUNS_MAX) -> Cut:
    """The smallest stream that can be found on which the same fails. `violation` is what fails at
    the end of this one."""
    cutter = _Cutter(stream, violation, runs_max)
    # The last block is where it fails.
    *before, last = stream.blocks
    cutter.reduce(before, lambda blocks: cut_blocks(stream, [*blocks, last]))
    _cut_parts(cutter)
    _cut_instructions(cutter)
    return Cut(cutter.best, cutter.violation, cutter.runs)


def _cut_parts(cutter: _Cutter) -> None:
    """Leave out envelopes, deposits and the rest, wherever they are."""
    blocks = cutter.best.blocks
    items = [
        (number, part, each)
        for number, block in enumerate(blocks)
        for part in _PARTS
        for each in getattr(block, part)
    ]

    def keep(kept: list[tuple[int, str, Any]]) -> Stream:
        return cut_blocks(cutter.best, [_pick(block, n, kept) for n, block in enumerate(blocks)])

    cutter.reduce(items, keep)


def _pick(block: BlockInput, number: int, kept: list[tuple[int, str, Any]]) -> BlockInput:
    parts = {
        part: tuple(each for place, name, each in kept if (place, name) == (number, part))
        for part in _PARTS
    }
    return replace(block, **parts)


def _cut_instructions(cutter: _Cutter) -> None:
    """Leave out instructions, but not all of a bundle: that would be another fault."""
    blocks = cutter.best.blocks
    items = []
    for number, block in enumerate(blocks):
        for place, envelope in enumerate(block.envelopes):
            bundle = decode_bundle(envelope.body)
            if isinstance(bundle, tuple) and len(bundle) > 1:
                items += [(number, place, index) for index in range(len(bundle))]

    def keep(kept: list[tuple[int, int, int]]) -> Stream:
        known, chosen = set(items), set(kept)

        def pick(number: int, block: BlockInput) -> BlockInput:
            envelopes = []
            for place, envelope in enumerate(block.envelopes):
                bundle = decode_bundle(envelope.body)
                if isinstance(bundle, tuple) and (number, place, 0) in known:
                    rest = [
                        each
                        for index, each in enumerate(bundle)
                        if (number, place, index) in chosen
                    ]
                    body = encode(Bundle(tuple(rest or bundle[:1])))
                    envelope = replace(envelope, body=body)
                envelopes.append(envelope)
            return replace(block, envelopes=tuple(envelopes))

        return cut_blocks(cutter.best, [pick(n, block) for n, block in enumerate(blocks)])

    cutter.reduce(items, keep)
