"""What a restart owes the past, and who must not start at all."""

from typing import Any

import pytest

from consensus.messages import Proposal, Vote
from localnet.sim.faults import WipeFault
from localnet.sim.mutants.hunt import hunt
from localnet.sim.mutants.schedules import make_schedule
from localnet.sim.mutants.table import MUTANTS
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles import restarts
from localnet.sim.oracles.restarts import Said, find_due
from localnet.sim.scenario import run_schedule

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


def test_a_node_that_lost_its_safety_record_alone_does_not_start_any_more() -> None:
    schedule = make_schedule("amnesia", 0)
    (fault,) = schedule.faults
    assert isinstance(fault, WipeFault)
    clusters: list[NodeCluster] = []
    outcome = run_schedule(schedule, clusters.append)
    assert outcome.violation is None
    (cluster,) = clusters
    assert not cluster.world.is_running(fault.host)
    assert cluster.world.disk(fault.host).read_range("block", b"", 1), "its chain is still there"


def test_at_rest_every_host_has_said_again_what_was_due(monkeypatch) -> None:
    dues: list[set[Said]] = []

    def find_and_note(*disk: Any) -> set[Said]:
        due = find_due(*disk)
        dues.append(set(due))
        return due

    monkeypatch.setattr(restarts, "find_due", find_and_note)
    outcome = run_schedule(make_schedule("restarts", 0))
    assert outcome.violation is None
    assert "rest" in outcome.phases
    assert {kind for due in dues for kind, _ in due} >= {Vote, Proposal}


@pytest.mark.parametrize("name", ["vote_not_repeated", "tip_unarchived", "proposal_not_repeated"])
def test_what_a_restart_owes_is_asked_for(name: str) -> None:
    found = hunt(BY_NAME[name], scenarios_max=3)
    assert (found.killed, found.oracle) == (True, "Restarts")
