"""What a scenario's cluster makes of processes that end, without starting any."""

import json

import pytest
import trio

from localnet.byzantine import BehaviourFailedError
from localnet.cluster import NotReadyError, View
from localnet.faults.cluster import ANSWER_MAX_S
from localnet.faults.runner import run_scenario
from localnet.faults.scenario import parse_scenario
from localnet.faults.scenario_cluster import ScenarioCluster
from localnet.network import create_network
from localnet.status import NodeStatus
from localnet.supervisor import ProcessState, ProcessStatus

LIAR = """
run_for = "20s"

[[byz]]
node = "node2"
behaviour = "silent"
at = "3s"
for = "5s"
"""
FAILURE = "mine.py:18 in Broken.send: ZeroDivisionError: division by zero"


@pytest.fixture
def make(tmp_path):
    """Makes a cluster of a scenario's text; to be called where trio runs."""
    network = create_network(tmp_path / "net", stakes=(1_000,) * 4, seed=1, port_first=21_000)

    def make(text: str) -> ScenarioCluster:
        view = View(note=lambda text: None, ready=lambda *_: None, tick=lambda _: None)
        return ScenarioCluster(network, parse_scenario("x", text), view)

    return make


def end(cluster, name, state, exit_code, said):
    cluster.supervisor.plan(name).stderr_path.write_text(said)
    cluster._process_ended(ProcessStatus(name, state, None, exit_code, 1, 0.0))


async def test_a_run_says_how_far_it_is_and_what_it_waits_for(make):
    cluster = make(LIAR)
    run_for_s = cluster._scenario.run_for_s
    assert cluster._describe_progress(1.0) == (
        f"   1.0 s  of {run_for_s:g} s: height 0, 0 fills, 0 of 0 orders executed"
    )
    assert "waiting for the nodes to converge" in cluster._describe_progress(run_for_s)


@pytest.mark.parametrize("state", [ProcessState.STOPPED, ProcessState.EXITED])
async def test_a_liar_that_its_behaviour_ended_is_told_of_also_when_it_was_being_stopped(
    make, state, monkeypatch
):
    cluster = make(LIAR)

    async def restart(name):
        pass

    monkeypatch.setattr(cluster.supervisor, "restart", restart)
    end(cluster, "node2", state, 3, f"error: {FAILURE} [byz.behaviour_failed]\n  mend it\n")
    # What it becomes afterwards does not make up for it.
    await cluster.faults.set_liar("node2", None)
    with pytest.raises(BehaviourFailedError) as caught:
        await cluster.conclude()
    assert caught.value.message == FAILURE


async def test_a_liar_that_fails_is_shown_and_fails_the_command_that_made_it_one(
    make, monkeypatch, autojump_clock
):
    cluster = make(LIAR)

    async def restart(name):
        managed = cluster.supervisor._processes[name]
        managed.state, managed.exit_code = ProcessState.EXITED, 3
        end(cluster, name, ProcessState.EXITED, 3, f"error: {FAILURE} [byz.behaviour_failed]\n")

    monkeypatch.setattr(cluster.supervisor, "restart", restart)
    monkeypatch.setattr(cluster.faults, "_runs", lambda name: True)
    handlers = cluster.handlers()
    with pytest.raises(BehaviourFailedError) as caught:
        await handlers["byz-set"]('{"node":"node2","behaviour":"silent"}')
    assert caught.value.message == FAILURE
    assert await handlers["byz-active"]("") == {
        "liars": [{"node": "node2", "behaviour": "silent", "failure": FAILURE}]
    }
    document = await handlers["status"]("")
    failures = {each["name"]: each["failure"] for each in document["processes"]}
    assert (failures["node2"], failures["node1"]) == (FAILURE, None)


async def test_a_node_that_its_behaviour_ended_is_started_again_and_one_that_was_killed_is_not(
    make, monkeypatch
):
    cluster, started = make(LIAR), []

    async def restart(name):
        started.append(name)

    monkeypatch.setattr(cluster.supervisor, "restart", restart)
    end(cluster, "node2", ProcessState.EXITED, 3, f"error: {FAILURE} [byz.behaviour_failed]\n")
    assert await cluster.faults.set_liar("node2", None)
    assert not await cluster.faults.set_liar("node1", "silent")
    assert started == ["node2"]
    assert not cluster.faults.failures


async def test_a_node_that_is_slow_to_answer_is_not_waited_for_without_end(
    make, monkeypatch, autojump_clock
):
    cluster = make(LIAR)
    cluster.supervisor._processes["node2"].state = ProcessState.RUNNING
    start_s = trio.current_time()
    await cluster._wait_answer("node2")
    assert trio.current_time() - start_s == ANSWER_MAX_S


async def test_a_liar_that_was_stopped_in_good_order_has_not_failed(make):
    cluster = make(LIAR)
    end(cluster, "node2", ProcessState.STOPPED, 0, "")
    end(cluster, "node1", ProcessState.STOPPED, 3, "error: no links: gone\n")
    cluster.validate_starting()
    assert not cluster.failures


SPLIT = 'nodes = 4\nrun_for = "10s"\ntraders = false\n'
PARTITION = '[[fault]]\nkind = "partition"\nnodes = ["node0", "node1"]\n'


LATE = PARTITION.replace("kind", 'at = "1s"\nkind')


@pytest.mark.parametrize(
    ("text", "is_ready"), [(SPLIT + PARTITION, True), (SPLIT, False), (SPLIT + LATE, False)]
)
async def test_nodes_are_ready_without_a_block_only_where_none_can_come(make, text, is_ready):
    cluster = make(text)
    assert not cluster.nodes_ready()
    cluster.monitor.statuses |= dict.fromkeys(cluster.monitor.statuses, NodeStatus(0))
    assert cluster.nodes_ready() is is_ready
    cluster.monitor.statuses |= dict.fromkeys(cluster.monitor.statuses, NodeStatus(1))
    assert cluster.nodes_ready()


def test_a_run_whose_nodes_do_not_get_ready_leaves_a_report_that_says_why(tmp_path, monkeypatch):
    async def fail(self):
        raise NotReadyError("not ready after 90 s: node1 did not answer", advice="look")

    monkeypatch.setattr(ScenarioCluster, "run", fail)
    report = tmp_path / "report"
    view = View(note=lambda text: None, ready=lambda *_: None, tick=lambda _: None)
    with pytest.raises(NotReadyError):
        run_scenario(parse_scenario("x", SPLIT), report, view, port_first=22_000, again="again")
    document = json.loads((report / "report.json").read_text())
    assert (document["verdict"], document["exit_code"]) == (None, 30)
    assert document["error"]["code"] == "localnet.not_ready"
    assert "node1 did not answer" in (report / "report.md").read_text()
