"""The engine never gets ahead of what is archived about its heights."""

from types import SimpleNamespace
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from consensus.effects import Put
from node.events import Execute, SaveState
from node.executor import Executor
from node.recovery import OUTPUT_TABLE
from node.storage.group_commit import GroupCommitter
from node.storage.safety import RecordWrite


class Engine:
    """Executes at once."""

    def __init__(self, told: list[Any]) -> None:
        self.told = told

    async def execute(self, request: Any) -> Any:
        return SimpleNamespace(
            height=request.height,
            market_root=b"m",
            receipts_root=b"r",
            instructions=request.height % 2,
            fills=0,
            output=b"output",
        )

    async def save(self, height: int) -> None:
        self.told.append(("saved", height))


async def test_outputs_are_archived_and_synced_before_the_engine_is_saved():
    told: list[Any] = []
    archive: GroupCommitter[RecordWrite] = GroupCommitter(told.extend)
    engine: Any = Engine(told)
    batches: Any = None
    executor = Executor(engine, batches, archive, lambda height, output: None, lambda event: None)
    for height in (1, 2, 3):
        executor.submit(Execute(height, 1, bytes(32), (), ()))
    executor.submit(SaveState(3))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(archive.run)
        nursery.start_soon(executor.run)
        with trio.fail_after(5):
            while ("saved", 3) not in told:
                await wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    assert told == [
        RecordWrite((Put(OUTPUT_TABLE, (1).to_bytes(8, "big"), b"output"),)),
        RecordWrite((Put(OUTPUT_TABLE, (3).to_bytes(8, "big"), b"output"),)),
        RecordWrite((), is_synced=True),
        ("saved", 3),
    ]
