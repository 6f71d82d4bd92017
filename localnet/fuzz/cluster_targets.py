"""Whole clusters as targets: their input is a script of all that was said."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final, Protocol

from crypto.codec import DecodeError, encode
from localnet.fuzz import client, peer
from localnet.fuzz.contract import Attack, Target
from localnet.fuzz.corpus import Corpus
from localnet.fuzz.script import (
    SAYINGS_MAX_PER_TICK,
    VIEWS,
    ClusterError,
    Script,
    Speaker,
    decode_script,
    run_script,
    shrink_script,
)
from localnet.sim.schedule import Schedule


class CountingSpeaker(Speaker, Protocol):
    """A speaker that counts what became of its frames."""

    accepted: int
    rejected: Counter[str]


MakeSpeaker = Callable[[Random, Corpus], CountingSpeaker]
MakeSchedule = Callable[[int, int], Schedule]


def _make_attack(
    name: str, make: MakeSpeaker, schedule: MakeSchedule
) -> Callable[[int, Corpus], Attack]:
    def attack(seed: int, corpus: Corpus) -> Attack:
        random = Random(f"{name} {seed}")
        speaker = make(random, corpus)
        busy_permille = random.choice((50, 200, 600))

        def draw() -> int:
            return SAYINGS_MAX_PER_TICK if random.randrange(1_000) < busy_permille else 0

        violation, said = run_script(schedule(seed, VIEWS), speaker, None, draw)
        error = None if violation is None else ClusterError(violation)
        script = encode(Script(seed, said))
        return Attack(script, len(said), speaker.accepted, dict(speaker.rejected), error)

    return attack


def _make_run(make: MakeSpeaker, schedule: MakeSchedule) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        script = decode_script(data)
        speaker = make(Random(0), Corpus())
        violation, _ = run_script(schedule(script.seed, VIEWS), speaker, script, lambda: 0)
        if violation is not None:
            raise ClusterError(violation)

    return run


CLUSTER_TARGETS: Final = tuple(
    Target(
        name,
        (),
        _make_run(make, schedule),
        (DecodeError,),
        time_max_s=600.0,
        attack=_make_attack(name, make, schedule),
        shrink=shrink_script,
    )
    for name, make, schedule in (
        ("peer", peer.PeerSpeaker, peer.make_schedule),
        ("client", client.ClientSpeaker, client.make_schedule),
    )
)
