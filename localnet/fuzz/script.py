"""What a hostile peer or client said in one run of a cluster, as data: enough to repeat the run.

Time is cut into ticks, and what is said has its place in a tick, so a run that is repeated from a
script is the run in which the script was made.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Protocol

from msgspec import Meta, Struct

from crypto.codec import DecodeError, decode, encode
from localnet.fuzz.minimise import minimise_list
from localnet.sim.nodes import NodeCluster
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Schedule
from localnet.sim.violation import Violation

TICK_MS: Final = 4
TICKS: Final = 300
"""So long something is said at most; an attack that has seen its views ends before."""
SAYINGS_MAX_PER_TICK: Final = 2
SHRINK_RUNS_MAX: Final = 80
VIEWS: Final = 25


class Saying(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One frame."""

    tick: Annotated[int, Meta(ge=0, lt=TICKS)]
    receivers: tuple[Annotated[int, Meta(ge=0, lt=4)], ...]
    channel: Annotated[int, Meta(ge=0, le=1)]
    """Of a peer: 1 for bulk."""
    frame: bytes


class Script(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One run."""

    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    sayings: tuple[Saying, ...]


class ClusterError(Exception):
    """A cluster broke a rule."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation.detail)
        self.violation = violation
        self.code = violation.oracle


class Speaker(Protocol):
    """Says things in one cluster."""

    def attach(self, cluster: NodeCluster) -> None:
        """Before the run."""
        ...

    def compose(self) -> Saying | None:
        """The next frame, made up; its tick does not matter."""
        ...

    def say(self, saying: Saying) -> None:
        """Deliver a frame."""
        ...


def run_script(
    schedule: Schedule, speaker: Speaker, script: Script | None, draw: Callable[[], int]
) -> tuple[Violation | None, tuple[Saying, ...]]:
    """Run a cluster in which what the script has is said, or without a script what the speaker
    makes up: `draw` tells how much in each tick."""
    said: list[Saying] = []
    by_tick: dict[int, list[Saying]] = {}
    for each in () if script is None else script.sayings:
        by_tick.setdefault(each.tick, []).append(each)

    def prepare(cluster: NodeCluster) -> None:
        speaker.attach(cluster)

        def speak(tick: int) -> None:
            if _find_view(cluster) >= schedule.views:
                # The attack is over: now all that was promised has to be kept, without new traffic.
                return
            if script is None:
                made = [speaker.compose() for _ in range(draw())]
                now = [_at(tick, each) for each in made if each is not None]
            else:
                now = by_tick.get(tick, [])
            for each in now:
                said.append(each)
                speaker.say(each)
            if tick + 1 < TICKS:
                cluster.world.after(TICK_MS, lambda: speak(tick + 1))

        cluster.world.after(TICK_MS, lambda: speak(0))

    outcome = run_schedule(schedule, prepare)
    return outcome.violation, tuple(said)


def _find_view(cluster: NodeCluster) -> int:
    views = (cluster.core(each).statistics().consensus.view for each in cluster.running())
    return max(views, default=0)


def _at(tick: int, saying: Saying) -> Saying:
    return Saying(tick, saying.receivers, saying.channel, saying.frame)


def decode_script(data: bytes) -> Script:
    """Read a script. Raises `DecodeError`."""
    return decode(Script, data)


def shrink_script(data: bytes, is_same: Callable[[bytes], bool]) -> bytes:
    """Leave out what need not be said."""
    try:
        script = decode_script(data)
    except DecodeError:
        return data

    def write(sayings: Sequence[Any]) -> bytes:
        return encode(Script(script.seed, tuple(sayings)))

    left = minimise_list(script.sayings, lambda some: is_same(write(some)), SHRINK_RUNS_MAX)
    return write(left)
