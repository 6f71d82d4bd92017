"""Members that lag are answered in turn, each within its own bounds."""

import threading

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from consensus.chain import ARCHIVE_BLOCK_TABLE, ARCHIVE_COMMIT_TABLE
from consensus.effects import ServeBatches, ServeCommitted, compute_key
from consensus.messages import (
    BLOCKS_MAX_PER_RESPONSE,
    SYNC_RESPONSE_MAX_BYTES,
    BulkMessage,
    SnapshotChunk,
    SnapshotOffer,
)
from consensus.types import SignedBatchHeader
from crypto.codec import decode_lenient, encode
from localnet.sim.nodes import NodeCluster
from node import serving
from node.events import ServeChunk, ServeOffer
from node.serving import ANSWERS_WAITING_MAX, Serving, read_committed

DEADLINE_S = 10


class GatedBatches:
    """A batch store on a slow disk: each read waits until the test allows it."""

    def __init__(self, stored):
        self.stored = stored
        self.reads = []
        self.gates = {}

    def close(self, batch_id):
        self.gates[batch_id] = threading.Event()

    def get(self, batch_id):
        self.reads.append(batch_id)
        if batch_id in self.gates:
            assert self.gates[batch_id].wait(DEADLINE_S)
        return self.stored.get(batch_id)


class FakeArchive:
    def __init__(self, tables):
        self.tables = tables

    def read(self, table, key):
        return self.tables[table].get(key)

    def read_range(self, table, from_key, limit, *, reverse=False):
        keys = sorted(key for key in self.tables[table] if key >= from_key)
        return [(key, self.tables[table][key]) for key in keys[:limit]]


@pytest.fixture(scope="module")
def chain():
    """Archive tables and batches of a node that ran."""
    cluster = NodeCluster(3)
    cluster.start()
    cluster.trade(20, 1_000)
    cluster.run(4_000)
    disk = cluster.world.disk(0)
    return FakeArchive(disk.stores["archive"]), dict(disk.batches)


class FakeLibrary:
    """Reads are noted, and never two at once."""

    def __init__(self):
        self.reads = []
        self.turn = threading.Lock()

    def _read(self, what):
        assert self.turn.acquire(blocking=False)
        self.reads.append(what)
        self.turn.release()
        return b"data"

    def read_offer(self, above_height):
        return self._read(above_height)

    def read_chunk(self, name):
        return self._read(name)


class Bench:
    def __init__(self, archive, batches):
        self.batches = GatedBatches(batches)
        self.sent = []
        self.library = FakeLibrary()
        self.serving = Serving(self.batches, archive, self.library, self.send)

    def send(self, to, frame):
        message = decode_lenient(BulkMessage, frame)
        self.sent.append((to, message))

    async def settle(self, count):
        with trio.fail_after(DEADLINE_S):
            while len(self.sent) < count:
                await wait_all_tasks_blocked(0.01)


@pytest.fixture
async def bench(chain, nursery):
    made = Bench(*chain)
    await nursery.start(made.serving.run)
    return made


async def test_stored_batches_are_sent_in_the_order_asked_for_and_missing_ones_passed_over(
    bench, chain
):
    ids = sorted(chain[1])[:3]
    bench.serving.serve(ServeBatches(1, (ids[2], bytes(32), ids[0])))
    await bench.settle(2)
    sent = [(to, message.body) for to, message in bench.sent]
    assert sent == [(1, chain[1][ids[2]][1]), (1, chain[1][ids[0]][1])]
    assert isinstance(bench.sent[0][1].signed_header, SignedBatchHeader)


async def test_a_member_has_one_answer_under_way_and_does_not_hold_up_another(bench, chain):
    slow, fast, later = sorted(chain[1])[:3]
    bench.batches.close(slow)
    bench.serving.serve(ServeBatches(1, (slow,)))
    bench.serving.serve(ServeBatches(1, (later,)))
    bench.serving.serve(ServeBatches(2, (fast,)))
    await bench.settle(1)
    assert [to for to, _ in bench.sent] == [2]
    assert later not in bench.batches.reads
    bench.batches.gates[slow].set()
    await bench.settle(3)
    assert [message.body for to, message in bench.sent if to == 1] == [
        chain[1][slow][1],
        chain[1][later][1],
    ]


async def test_what_waits_for_one_member_is_bounded_and_the_rest_is_dropped(bench, chain):
    slow, fast = sorted(chain[1])[:2]
    bench.batches.close(slow)
    bench.serving.serve(ServeBatches(1, (slow,)))
    await wait_all_tasks_blocked(0.01)
    for _ in range(ANSWERS_WAITING_MAX + 5):
        bench.serving.serve(ServeBatches(1, (fast,)))
    assert bench.serving.dropped == 5
    bench.batches.gates[slow].set()
    await bench.settle(1 + ANSWERS_WAITING_MAX)
    bench.serving.serve(ServeBatches(1, (fast,)))
    await bench.settle(2 + ANSWERS_WAITING_MAX)
    assert bench.serving.dropped == 5


async def test_archived_blocks_leave_with_the_certificate_of_the_last(bench, chain):
    bench.serving.serve(ServeCommitted(1, 3, 99))
    await bench.settle(1)
    [(to, response)] = bench.sent
    assert to == 1
    heights = [block.height for block in response.blocks]
    assert heights == list(range(3, 3 + len(heights)))
    assert len(heights) > 2
    assert response.proof.height == heights[-1]
    assert response.committed_height == 99


def test_a_response_has_no_more_blocks_than_it_may(chain):
    response = read_committed(chain[0], ServeCommitted(1, 1, 99))
    assert len(response.blocks) == BLOCKS_MAX_PER_RESPONSE


def test_a_response_ends_where_its_bytes_do_but_has_one_block_in_any_case(chain, monkeypatch):
    sizes = [
        len(chain[0].read(ARCHIVE_BLOCK_TABLE, compute_key(height))) for height in range(1, 10)
    ]
    assert sum(sizes) < SYNC_RESPONSE_MAX_BYTES
    monkeypatch.setattr(serving, "SYNC_RESPONSE_MAX_BYTES", sum(sizes[:4]))
    assert len(read_committed(chain[0], ServeCommitted(1, 1, 99)).blocks) == 4
    monkeypatch.setattr(serving, "SYNC_RESPONSE_MAX_BYTES", 1)
    assert len(read_committed(chain[0], ServeCommitted(1, 1, 99)).blocks) == 1


def test_a_response_ends_at_a_gap(chain):
    tables = {name: dict(table) for name, table in chain[0].tables.items()}
    del tables[ARCHIVE_BLOCK_TABLE][compute_key(5)]
    response = read_committed(FakeArchive(tables), ServeCommitted(1, 3, 99))
    assert [block.height for block in response.blocks] == [3, 4]
    assert encode(response.proof) == tables[ARCHIVE_COMMIT_TABLE][compute_key(4)]
    response = read_committed(FakeArchive(tables), ServeCommitted(1, 5, 99))
    assert (response.blocks, response.proof) == ((), None)


async def test_an_archive_that_fails_ends_the_node(chain):
    def fail(*_arguments):
        raise OSError("the disk is gone")

    archive = FakeArchive({})
    archive.read_range = fail
    made = Bench(archive, {})

    async def run():
        async with trio.open_nursery() as nursery:
            await nursery.start(made.serving.run)
            made.serving.serve(ServeCommitted(1, 1, 1))

    with pytest.raises(BaseExceptionGroup) as raised:
        await run()
    assert raised.group_contains(OSError, match="the disk is gone")


async def test_snapshots_are_offered_and_given_in_pieces(bench):
    name = bytes(range(32))
    bench.serving.serve(ServeOffer(1, 7))
    bench.serving.serve(ServeChunk(1, name))
    bench.serving.serve(ServeChunk(2, name))
    await bench.settle(3)
    to_first = [message for to, message in bench.sent if to == 1]
    assert to_first == [SnapshotOffer(b"data"), SnapshotChunk(name, b"data")]
    assert sorted(map(str, bench.library.reads)) == sorted(map(str, [7, name, name]))
