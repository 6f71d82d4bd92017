"""The campaign of twins: which committees, which twins, and how many views."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Final, NamedTuple

from msgspec.structs import replace

from localnet.sim.generator import draw_faults
from localnet.sim.schedule import Schedule
from localnet.sim.twins import TwinSpace


class TwinPlan(NamedTuple):
    """A kind of twins scenarios."""

    powers: tuple[int, ...]
    twins: tuple[int, ...]
    rounds: int
    alphabet: str
    span: int = 1


CAMPAIGN: Final = (
    TwinPlan((1,) * 4, (0,), 4, "groups"),
    TwinPlan((1,) * 4, (0,), 6, "groups"),
    TwinPlan((1,) * 4, (0,), 2, "groups", 4),
    TwinPlan((1,) * 4, (0,), 4, "halves"),
    TwinPlan((1,) * 4, (0,), 4, "masks"),
    TwinPlan((5, 4, 3, 3), (1,), 4, "groups"),
    TwinPlan((3, 3, 3, 3, 1), (0, 4), 4, "groups"),
    TwinPlan((1,) * 7, (0, 1), 4, "groups"),
    TwinPlan((1,) * 7, (0, 1), 2, "groups", 3),
    TwinPlan((1,) * 10, (0, 1, 2), 3, "groups"),
)
"""What a campaign draws from, in turn: n = 4, 7 and 10 with f twins, and unequal power."""


FAULTS_EVERY: Final = 4
"""Of the turns of all plans, so many to one whose scenarios meet faults besides: what two hosts of
one member do while links, nodes or disks of others fail."""


def generate_twins(
    count: int, seed: int = 0, plans: Sequence[TwinPlan] = CAMPAIGN
) -> Iterator[Schedule]:
    """Schedules with twins, the plans in turn, and with faults in every `FAULTS_EVERY`th turn;
    always the same ones for a seed."""
    spaces = [TwinSpace(*plan) for plan in plans]
    for number in range(count):
        random = Random(f"twins {seed} {number}")
        space = spaces[number % len(spaces)]
        schedule = space.make_schedule(space.sample(random), seed * 1_000_003 + number)
        if number // len(spaces) % FAULTS_EVERY == FAULTS_EVERY - 1:
            faults = draw_faults(random, schedule.powers, schedule.views)
            schedule = replace(schedule, name=f"{schedule.name}, faults", faults=faults)
        yield schedule
