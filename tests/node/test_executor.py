"""Heights go to the engine in order, those that wait together, and no save gets ahead of the
archive."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from consensus.effects import compute_key
from node.events import BatchToExecute, Execute, Executed, SaveState
from node.executor import (
    EXECUTION_QUEUE_MAX,
    HEIGHTS_TOGETHER_MAX,
    READ_TOGETHER_MAX_BYTES,
    Executor,
)
from node.recovery import OUTPUT_TABLE
from node.storage.group_commit import GroupCommitter
from node.workers.engine import ExecuteResult

STORED = {
    b"one": ("header", b"body one"),
    b"two": ("header", b"body two"),
    b"large": ("header", bytes(READ_TOGETHER_MAX_BYTES)),
}


class FakeEngine:
    def __init__(self, log):
        self.log = log
        self.gate = trio.Event()
        self.gate.set()
        self.instructions = 1
        self.is_empty = False

    async def begin_execute(self, request):
        self.log.append(("execute", request.height, request.batches))

        async def result():
            await self.gate.wait()
            return ExecuteResult(
                request.height,
                bytes(32),
                bytes(32),
                self.instructions,
                0,
                self.is_empty,
                b"output",
            )

        return result

    async def begin_save(self, height):
        self.log.append(("save", height))


class Bench:
    def __init__(self):
        self.log = []
        self.engine = FakeEngine(self.log)
        self.archive = GroupCommitter(self.commit)
        self.executor = Executor(
            self.engine,
            STORED,
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
    yield made
    # What was begun is finished.
    made.engine.gate.set()


async def test_a_height_gets_its_batches_in_order_with_the_refused_positions(bench):
    bench.executor.submit(execute(1, BatchToExecute(b"two", (3,)), BatchToExecute(b"one", ())))
    while len(bench.log) < 3:
        await wait_all_tasks_blocked()
    batches = ((b"body two", (3,)), (b"body one", ()))
    assert bench.log == [("execute", 1, batches), ("output", 1, b"output"), executed(1)]


async def submit_and_wait(bench, heights):
    """Let the engine be given what it gets before its first result; return those heights."""
    bench.engine.gate = trio.Event()
    for request in heights:
        bench.executor.submit(request)
    with trio.fail_after(30):
        while not bench.log:
            # A thread reads; that all tasks are blocked does not mean that it is done.
            await wait_all_tasks_blocked(0.001)
    return [entry[1] for entry in bench.log]


async def test_heights_that_wait_go_to_the_engine_before_its_first_result(bench):
    count = HEIGHTS_TOGETHER_MAX + 3
    given = await submit_and_wait(bench, [execute(height + 1) for height in range(count)])
    assert given == list(range(1, HEIGHTS_TOGETHER_MAX + 1))
    bench.engine.gate.set()
    with trio.fail_after(30):
        while executed(count) not in bench.log:
            await wait_all_tasks_blocked(0.001)
    results = [entry.height for entry in bench.log if isinstance(entry, Executed)]
    assert results == list(range(1, count + 1))


async def test_no_more_is_read_at_once_than_the_bound_and_the_height_that_reaches_it(bench):
    one, large = BatchToExecute(b"one", ()), BatchToExecute(b"large", ())
    requests = [execute(1, one), execute(2, large), execute(3, one)]
    assert await submit_and_wait(bench, requests) == [1, 2]


async def test_heights_above_a_save_wait_for_it(bench):
    requests = [execute(1), SaveState(1), execute(2)]
    assert await submit_and_wait(bench, requests) == [1]


async def test_a_height_at_which_only_time_passed_for_orders_leaves_its_output(bench):
    bench.engine.instructions = 0
    bench.executor.submit(execute(1))
    while executed(1, 0) not in bench.log:
        await wait_all_tasks_blocked()
    assert ("output", 1, b"output") in bench.log


async def test_a_height_at_which_nothing_happened_leaves_no_output(bench):
    bench.engine.instructions = 0
    bench.engine.is_empty = True
    bench.executor.submit(execute(1))
    while len(bench.log) < 2:
        await wait_all_tasks_blocked()
    assert bench.log == [("execute", 1, ()), executed(1, 0)]
    assert bench.archive.statistics().pending == 0


async def test_the_state_is_saved_only_after_everything_archived_so_far_is_synced(bench, nursery):
    for request in (execute(1), SaveState(1), execute(2)):
        bench.executor.submit(request)
    while executed(1) not in bench.log:
        await wait_all_tasks_blocked()
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
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.executor.run)
        given = await submit_and_wait(bench, map(execute, range(1, HEIGHTS_TOGETHER_MAX + 2)))
        nursery.cancel_scope.cancel()
        bench.engine.gate.set()
    assert given == list(range(1, HEIGHTS_TOGETHER_MAX + 1))
    results = [entry.height for entry in bench.log if isinstance(entry, Executed)]
    assert results == given


async def test_requests_that_wait_have_a_bound():
    bench = Bench()
    for height in range(EXECUTION_QUEUE_MAX):
        bench.executor.submit(execute(height + 1))
    with pytest.raises(AssertionError):
        bench.executor.submit(execute(EXECUTION_QUEUE_MAX + 1))
