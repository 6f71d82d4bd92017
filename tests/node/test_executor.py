"""Heights go to the engine one at a time and in order, and no save gets ahead of the archive."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from consensus.effects import compute_key
from node.events import BatchToExecute, Execute, Executed, SaveState
from node.executor import EXECUTION_QUEUE_MAX, Executor
from node.recovery import OUTPUT_TABLE
from node.storage.group_commit import GroupCommitter
from node.workers.engine import ExecuteResult


class FakeEngine:
    def __init__(self, log):
        self.log = log
        self.gate = trio.Event()
        self.gate.set()
        self.instructions = 1

    async def execute(self, request):
        self.log.append(("execute", request.height, request.batches))
        await self.gate.wait()
        return ExecuteResult(request.height, bytes(32), bytes(32), self.instructions, 0, b"output")

    async def begin_save(self, height):
        self.log.append(("save", height))


class Bench:
    def __init__(self):
        self.log = []
        self.engine = FakeEngine(self.log)
        self.archive = GroupCommitter(self.commit)
        self.executor = Executor(
            self.engine,
            {b"one": ("header", b"body one"), b"two": ("header", b"body two")},
            self.archive,
            lambda height, output: self.log.append(("output", height, output)),
            self.log.append,
        )

    def commit(self, items):
        for item in items:
            if item.is_synced:
                self.log.append("synced")
            for put in item.puts:
                self.log.append(("archived", put.table, put.key, put.value))


def execute(height, *batches):
    return Execute(height, height, bytes(32), batches, ())


def executed(height, instructions=1):
    return Executed(height, bytes(32), bytes(32), instructions, 0)


@pytest.fixture
async def bench(nursery):
    made = Bench()
    nursery.start_soon(made.executor.run)
    return made


async def test_a_height_gets_its_batches_in_order_with_the_refused_positions(bench):
    bench.executor.submit(execute(1, BatchToExecute(b"two", (3,)), BatchToExecute(b"one", ())))
    while len(bench.log) < 3:
        await wait_all_tasks_blocked()
    batches = ((b"body two", (3,)), (b"body one", ()))
    assert bench.log == [("execute", 1, batches), ("output", 1, b"output"), executed(1)]


async def test_a_height_without_instructions_leaves_no_output(bench):
    bench.engine.instructions = 0
    bench.executor.submit(execute(1))
    await wait_all_tasks_blocked()
    assert bench.log == [("execute", 1, ()), executed(1, 0)]
    assert bench.archive.statistics().pending == 0


async def test_the_state_is_saved_only_after_everything_archived_so_far_is_synced(bench, nursery):
    for request in (execute(1), SaveState(1), execute(2)):
        bench.executor.submit(request)
    await wait_all_tasks_blocked()
    assert ("save", 1) not in bench.log, "the archive does not write yet"
    nursery.start_soon(bench.archive.run)
    while executed(2) not in bench.log:
        await wait_all_tasks_blocked()
    archived = ("archived", OUTPUT_TABLE, compute_key(1), b"output")
    assert bench.log.index(archived) < bench.log.index("synced") < bench.log.index(("save", 1))
    assert bench.log.index(("save", 1)) < bench.log.index(("execute", 2, ()))


async def test_what_was_begun_is_finished_when_the_node_stops():
    bench = Bench()
    bench.engine.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.executor.run)
        bench.executor.submit(execute(1))
        bench.executor.submit(execute(2))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        bench.engine.gate.set()
    assert bench.log == [("execute", 1, ()), ("output", 1, b"output"), executed(1)]


async def test_requests_that_wait_have_a_bound():
    bench = Bench()
    for height in range(EXECUTION_QUEUE_MAX):
        bench.executor.submit(execute(height + 1))
    with pytest.raises(trio.WouldBlock):
        bench.executor.submit(execute(EXECUTION_QUEUE_MAX + 1))
