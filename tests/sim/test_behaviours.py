"""Every behaviour lies, the honest agree and go on, and only the provably guilty are convicted."""

import pytest

from localnet.byzantine import behaviours
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Liar, Schedule


@pytest.mark.parametrize("behaviour", behaviours())
def test_with_one_liar_of_four_the_others_agree_and_go_on(behaviour: str) -> None:
    for seed in (1, 2):
        liars = (Liar(member=seed, behaviour=behaviour),)
        outcome = run_schedule(Schedule(seed=seed, views=25, liars=liars))
        assert outcome.violation is None
        assert outcome.committed_height > 10
