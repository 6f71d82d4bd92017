"""The supervisor's side of faults, with a stand-in for the supervisor."""

import json
import signal
from functools import partial

import pytest
import trio
import trio.testing

from localnet.byzantine import UnknownBehaviourError
from localnet.faults.desk import AFTERMATH_S, FaultDesk
from localnet.faults.model import FaultError
from localnet.faults.table import FAULTS_MAX, journal_path, read_table, table_path
from localnet.plans import node_plan
from localnet.supervisor import ProcessPlan, ProcessState, ProcessStatus
from node.exit_codes import ExitCode
from node.network import Manifest, Network, NetworkError, NetworkNode


class FakeSupervisor:
    """Notes what it is asked, and which processes would run; as strict as the real one."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.running = {f"node{index}": True for index in range(4)}
        self.plans: dict[str, ProcessPlan] = {}
        self.started = trio.Event()

    def status(self, name):
        state = ProcessState.RUNNING if self.running[name] else ProcessState.KILLED
        return ProcessStatus(name, state, 1, None, 1, 0.0)

    async def kill(self, name):
        assert self.running[name], "what does not run cannot be killed"
        self.asked.append(("kill", name))
        self.running[name] = False

    async def start(self, name):
        assert not self.running[name], "what runs cannot be started"
        self.asked.append(("start", name))
        self.running[name] = True
        self.started.set()

    async def restart(self, name):
        self.asked.append(("restart", name))
        self.running[name] = True

    def pause(self, name, for_s):
        assert self.running[name], "what does not run cannot be paused"
        self.asked.append(("pause", name, for_s))

    def resume(self, name):
        self.asked.append(("resume", name))

    def set_plan(self, name, plan):
        self.plans[name] = plan


class Bench:
    def __init__(self, path, has_bad_parts=True):
        nodes = tuple(
            NetworkNode(f"node{index}", 1, f"127.0.0.1:{index + 1}", f"127.0.0.1:{index + 9}")
            for index in range(4)
        )
        self.network = Network(path, Manifest(1, 42, "00" * 32, nodes, ()))
        self.network.run_dir.mkdir()
        self.supervisor = FakeSupervisor()
        self.plan_node = partial(node_plan, self.network, has_bad_parts=has_bad_parts)
        self.desk = FaultDesk(
            self.network, self.supervisor, self.plan_node, has_bad_parts=has_bad_parts
        )

    def table(self):
        return [each.id for each in read_table(table_path(self.network.run_dir))]

    def events(self):
        lines = journal_path(self.network.path).read_text().splitlines()
        return [json.loads(line)["event"] for line in lines]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def ended(name, exit_code):
    return ProcessStatus(name, ProcessState.EXITED, None, exit_code, 1, 0.0)


KILL = {"kind": "kill", "nodes": ["1"]}
DELAY = {"kind": "delay", "links": ["0>1"], "delay_ms": 5}
FULL = {"kind": "disk-full", "nodes": ["1"]}


async def test_a_kill_ends_a_node_and_its_end_starts_it(bench):
    entry = await bench.desk.add(KILL, None)
    assert bench.supervisor.asked == [("kill", "node1")]
    assert bench.table() == [entry.id]
    await bench.desk.remove(entry.id)
    assert bench.supervisor.asked[1:] == [("start", "node1")]
    assert bench.table() == []
    assert bench.events() == ["added", "began", "removed", "ended"]


async def test_a_node_that_two_faults_hold_starts_with_the_end_of_the_last(bench):
    first, second = await bench.desk.add(KILL, None), await bench.desk.add(KILL, None)
    await bench.desk.remove(first.id)
    assert bench.supervisor.asked == [("kill", "node1")]
    await bench.desk.remove(second.id)
    assert bench.supervisor.asked[-1] == ("start", "node1")


async def test_a_fault_says_in_few_words_where_it_is(bench):
    entry = await bench.desk.add({"kind": "delay", "nodes": ["2"], "delay_ms": 5}, None)
    assert len(bench.desk.describe(entry)["links"]) == 6
    assert bench.desk.describe(entry)["where"] == ["node2<>*"]


async def test_a_fault_says_whom_it_did_not_strike(bench):
    bench.supervisor.running["node1"] = False
    entry = await bench.desk.add({"kind": "kill", "nodes": ["1", "2"]}, None)
    assert bench.supervisor.asked == [("kill", "node2")]
    assert bench.desk.describe(entry)["down"] == ["node1"]
    assert bench.desk.describe(entry)["where"] == ["node1", "node2"]
    await bench.desk.remove(entry.id)
    assert bench.desk.describe(entry)["down"] == ["node1"]
    assert bench.events() == ["added", "missed", "began", "removed", "ended", "ended"]


async def test_a_bad_disk_waits_for_a_node_that_does_not_run(bench):
    bench.supervisor.running["node1"] = False
    entry = await bench.desk.add(FULL, None)
    assert bench.desk.describe(entry)["down"] == ["node1"]
    assert bench.events() == ["added"]
    bench.desk.validate_free("node1")


async def test_a_node_that_a_fault_holds_down_is_not_started_by_others(bench):
    bench.desk.validate_free("node1")
    entry = await bench.desk.add(KILL, None)
    with pytest.raises(FaultError) as caught:
        bench.desk.validate_free("node1")
    assert caught.value.code == "fault.holds"
    assert caught.value.message == "fault 1, kill, holds node1 down"
    assert caught.value.advice.endswith("rota fault remove 1")
    bench.desk.validate_free("node2")
    await bench.desk.remove(entry.id)
    bench.desk.validate_free("node1")


async def test_a_pause_is_woken_by_its_end_and_has_a_deadline_of_its_own(bench):
    entry = await bench.desk.add({"kind": "pause", "nodes": ["2"]}, 7)
    await bench.desk.remove(entry.id)
    assert bench.supervisor.asked == [("pause", "node2", 7), ("resume", "node2")]


async def test_faults_with_a_duration_heal_by_themselves(bench):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.desk.run)
        await bench.desk.add(KILL, 0.05)
        lasting = await bench.desk.add(DELAY, None)
        with trio.fail_after(10):
            await bench.supervisor.started.wait()
        assert [each.id for each in bench.desk.entries] == [lasting.id]
        assert await bench.desk.heal() == [lasting.id]
        nursery.cancel_scope.cancel()
    assert bench.events() == ["added", "began", "added", "expired", "ended", "healed"]


async def test_a_node_that_a_bad_disk_ended_is_started_when_it_heals(bench):
    entry = await bench.desk.add(FULL, None)
    assert bench.desk.heed_end(ended("node1", int(ExitCode.STORAGE)))
    bench.supervisor.running["node1"] = False
    await bench.desk.remove(entry.id)
    assert bench.supervisor.asked == [("start", "node1")]


async def test_a_node_that_ends_of_a_bad_disk_only_after_the_heal_is_started_too(
    bench, autojump_clock
):
    entry = await bench.desk.add(FULL, None)
    await bench.desk.remove(entry.id)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.desk.run)
        bench.supervisor.running["node1"] = False
        assert bench.desk.heed_end(ended("node1", -signal.SIGKILL))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert bench.supervisor.asked == [("start", "node1")]
    assert not bench.desk.heed_end(ended("node1", -signal.SIGKILL)), "once only"
    await bench.desk.remove((await bench.desk.add(FULL, None)).id)
    await trio.sleep(AFTERMATH_S + 1)  # of the autojump clock: no time passes
    assert not bench.desk.heed_end(ended("node1", int(ExitCode.STORAGE)))


async def test_an_end_that_no_fault_explains_is_unexpected(bench):
    await bench.desk.add(FULL, None)
    assert not bench.desk.heed_end(ended("node2", int(ExitCode.STORAGE)))
    assert not bench.desk.heed_end(ended("node1", int(ExitCode.HALTED)))


async def test_there_are_not_more_faults_than_the_table_holds(bench):
    for _ in range(FAULTS_MAX):
        await bench.desk.add(DELAY, None)
    with pytest.raises(FaultError):
        await bench.desk.add(DELAY, None)


async def test_what_is_unknown_is_refused(bench):
    with pytest.raises(FaultError) as caught:
        await bench.desk.remove(7)
    assert caught.value.code == "fault.unknown"
    with pytest.raises(FaultError):
        await bench.desk.add(DELAY, 0)
    with pytest.raises(UnknownBehaviourError):
        await bench.desk.set_liar("node1", "kind")
    with pytest.raises(NetworkError):
        await bench.desk.set_liar("node9", "silent")


async def test_a_liar_is_started_as_one_and_becomes_honest_again(bench):
    await bench.desk.set_liar("node1", "silent")
    assert "silent" in bench.supervisor.plans["node1"].arguments
    assert bench.desk.liars == {"node1": "silent"}
    await bench.desk.set_liar("node1", None)
    assert "--behaviour" not in bench.supervisor.plans["node1"].arguments
    assert bench.desk.liars == {}
    assert bench.supervisor.asked == [("restart", "node1")] * 2


async def test_without_proxy_and_bad_parts_only_processes_can_be_hit(tmp_path):
    bench = Bench(tmp_path, has_bad_parts=False)
    await bench.desk.add(KILL, None)
    with pytest.raises(FaultError) as caught:
        await bench.desk.add(DELAY, None)
    assert caught.value.code == "fault.unavailable"
    await bench.desk.set_liar("node1", "silent")
    assert "--dir" not in bench.supervisor.plans["node1"].arguments
    await bench.desk.set_liar("node1", None)
    plan = bench.supervisor.plans["node1"]
    assert (plan.module, plan.arguments[:2]) == ("node.cli.main", ("node", "start"))
