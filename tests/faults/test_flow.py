"""One direction of a proxied connection: how much it holds."""

from random import Random

import trio
import trio.testing

from localnet.faults import flow
from localnet.faults.flow import CHUNK_COST_BYTES, GOOD, Flow, LinkRule, Quality

CHUNKS = 20


class Dripping:
    """A stream of single bytes; it ends after many."""

    def __init__(self, count: int) -> None:
        self.left = count

    async def receive_some(self, size_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        self.left -= 1
        return b"x" if self.left >= 0 else b""


async def test_single_bytes_behind_a_cut_count_with_what_holds_them(monkeypatch, autojump_clock):
    monkeypatch.setattr(flow, "WAITING_MAX_BYTES", CHUNKS * (CHUNK_COST_BYTES + 1))
    rule, source = LinkRule(), Dripping(10 * CHUNKS)
    rule.set(Quality(is_cut=True))
    sink, far = trio.testing.memory_stream_pair()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Flow(rule, Random(1)).run, source, sink)
            await trio.testing.wait_all_tasks_blocked()
            assert source.left == 10 * CHUNKS - CHUNKS - 1
            rule.set(GOOD)
            got = b""
            while chunk := await far.receive_some(100):
                got += chunk
            assert got == b"x" * 10 * CHUNKS
            nursery.cancel_scope.cancel()
