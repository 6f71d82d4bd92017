"""The bad world around a node: what is lost, doubled, held back, skewed and refused."""

import errno
import json
import signal
import subprocess
import sys
from random import Random

import pytest
import trio
import trio.testing

from consensus.effects import Put
from localnet.faults.bad_disk import VFS_NAME, BadDisk, BadVfs
from localnet.faults.bad_network import HELD_MAX, Fate, Postman, decide, read_kind
from localnet.faults.model import decode_fault
from localnet.faults.table import (
    ActiveFault,
    Journal,
    TableReader,
    read_table,
    wall_ms,
    write_table,
)
from localnet.faults.weather import Weather
from node.storage.archive import ArchiveStore
from node.storage.errors import StorageError
from node.storage.records import Record
from node.storage.safety import RecordWrite

NODES = ("node0", "node1", "node2", "node3")
VOTE = b"\x94\xa4vote\x01\x02\x03"
TIMEOUT = b"\x94\xa7timeout\x01\x02\x03"


class Bench:
    """A table, a journal, and the weather of node0."""

    def __init__(self, path):
        self.table = path / "faults.json"
        self.journal = path / "faults.jsonl"
        self.weather = Weather("node0", self.table, Journal(self.journal, "node0"))

    def set(self, *documents):
        entries = tuple(
            ActiveFault(number, decode_fault(document, NODES), wall_ms(), None)
            for number, document in enumerate(documents, 1)
        )
        write_table(self.table, entries)
        self.weather.reader.refresh()

    def lines(self):
        return [json.loads(line) for line in self.journal.read_text().splitlines()]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


class Post:
    """A postman, and what it let leave."""

    def __init__(self, bench):
        self.sent = []
        self.postman = Postman(bench.weather, Random(1))

    def send(self, receiver, frame):
        return self.postman.send(
            receiver, frame, lambda: self.sent.append((receiver, frame)) is None
        )


@pytest.fixture
def post(bench):
    return Post(bench)


def test_the_wire_tag_is_read_without_decoding():
    assert read_kind(VOTE) == "vote"
    assert read_kind(b"\xdc\x00\x10\xa5batch") == "batch"


def test_lost_messages_are_those_of_the_link_and_kind(bench, post):
    bench.set({"kind": "loss", "links": ["0>1"], "permille": 1_000, "messages": ["vote"]})
    assert not post.send("node1", VOTE)
    assert post.send("node1", TIMEOUT)
    assert post.send("node2", VOTE)
    assert post.sent == [("node1", TIMEOUT), ("node2", VOTE)]
    bench.set()
    assert post.send("node1", VOTE)
    began, ended = bench.lines()
    assert (began["event"], began["id"], began["by"]) == ("began", 1, "node0")
    assert (ended["event"], ended["hits"]) == ("ended", 1)


def rules(*documents):
    return [
        (number, decode_fault({"links": ["0>1"], "permille": 1_000, **document}, NODES))
        for number, document in enumerate(documents, 1)
    ]


def test_what_becomes_of_a_message_follows_from_the_rules_and_the_seed():
    assert decide("vote", [], Random(1)) == Fate(1, 0, ())
    loss, twice = {"kind": "loss"}, {"kind": "duplicate"}
    late = {"kind": "reorder", "hold_max_ms": 50}
    assert decide("vote", rules(twice, loss, late), Random(1)) == Fate(0, 0, (1, 2))
    assert decide("vote", rules(twice, twice), Random(1)) == Fate(3, 0, (1, 2))
    held = decide("vote", rules(late, twice, late), Random(1))
    assert held == decide("vote", rules(late, twice, late), Random(1))
    assert (held.copies, held.struck) == (2, (1, 2, 3))
    assert 2 <= held.held_ms <= 100
    assert decide("vote", rules({**loss, "messages": ["timeout"]}), Random(1)) == Fate(1, 0, ())


def test_a_part_of_the_messages_is_lost():
    random = Random(1)
    (rule,) = rules({"kind": "loss", "permille": 300})
    lost = sum(decide("vote", [rule], random).copies == 0 for _ in range(1_000))
    assert 200 < lost < 400


def test_doubled_messages_are_sent_twice(bench, post):
    bench.set({"kind": "duplicate", "links": ["0>1"], "permille": 1_000})
    post.send("node1", VOTE)
    assert post.sent == [("node1", VOTE)] * 2


def test_a_copy_that_finds_no_room_is_told(bench, post):
    bench.set({"kind": "duplicate", "links": ["0>1"], "permille": 1_000})
    answers = [True, False]
    assert not post.postman.send("node1", VOTE, lambda: answers.pop())
    assert answers == []


async def test_held_back_messages_are_overtaken_and_arrive(bench, post, autojump_clock):
    late = {"kind": "reorder", "links": ["0>1"], "permille": 1_000, "hold_max_ms": 50}
    bench.set({**late, "messages": ["vote"]})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(post.postman.run)
        await trio.testing.wait_all_tasks_blocked()
        assert post.send("node1", VOTE)
        post.send("node1", TIMEOUT)
        assert post.sent == [("node1", TIMEOUT)]
        await trio.sleep(0.051)  # of the autojump clock: no time passes
        nursery.cancel_scope.cancel()
    assert post.sent == [("node1", TIMEOUT), ("node1", VOTE)]


async def test_only_so_many_messages_are_held_back(bench, post, autojump_clock):
    bench.set({"kind": "reorder", "links": ["0>1"], "permille": 1_000, "hold_max_ms": 50})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(post.postman.run)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(HELD_MAX):
            post.send("node1", VOTE)
        assert post.sent == []
        post.send("node1", TIMEOUT)
        assert post.sent == [("node1", TIMEOUT)]
        await trio.sleep(0.051)  # of the autojump clock: no time passes
        assert len(post.sent) == HELD_MAX + 1
        post.send("node1", TIMEOUT)
        assert len(post.sent) == HELD_MAX + 1, "there is room again"
        nursery.cancel_scope.cancel()


def test_links_of_others_are_not_ours(bench, post):
    bench.set({"kind": "loss", "links": ["1>0"], "permille": 1_000})
    assert post.send("node1", VOTE)
    assert not bench.journal.exists()


def test_skews_add_up_and_end(bench):
    skew = {"kind": "clock-skew", "nodes": ["0"]}
    bench.set(
        {**skew, "offset_ms": 500},
        {**skew, "offset_ms": -200},
        {**skew, "nodes": ["1"], "offset_ms": 9},
    )
    assert bench.weather.skew_ms == 300
    bench.set()
    assert bench.weather.skew_ms == 0


# ---- the disk ------------------------------------------------------------------------------


def test_a_full_disk_takes_no_bytes_until_it_heals(bench, tmp_path):
    disk = BadDisk(bench.weather)
    file = disk.open_append(tmp_path / "x")
    bench.set({"kind": "disk-full", "nodes": ["0"]})
    with pytest.raises(OSError) as caught:  # noqa: PT011  # told apart by its errno
        disk.write(file, [b"abc"])
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError):  # noqa: PT011  # as above
        disk.write(file, [b"abc"])
    (refused,) = [line for line in bench.lines() if line["event"] == "refused"]
    assert (refused["ids"], refused["node"], refused["file"]) == ([1], "node0", "x")
    bench.set()
    assert disk.write(file, [b"abc"]) == 3
    disk.close(file)


def test_a_store_on_a_full_disk_says_so(bench, tmp_path):
    vfs = BadVfs(bench.weather)
    store = ArchiveStore(tmp_path / "chain.db", owner=b"x", vfs=VFS_NAME)
    store.commit([RecordWrite((Put("t", b"k", b"v"),))])
    bench.set({"kind": "disk-full", "nodes": ["0"]})
    with pytest.raises(StorageError) as caught:
        store.commit([RecordWrite((Put("t", b"k2", b"v"),))])
    assert caught.value.code == "storage.full"
    (refused,) = [line for line in bench.lines() if line["event"] == "refused"]
    assert refused["file"].startswith("chain.db")
    bench.set()
    store.close()
    del vfs


TORN = """
import sys
from pathlib import Path
from consensus.effects import Put
from localnet.faults.bad_disk import BadVfs, VFS_NAME
from localnet.faults.table import Journal
from localnet.faults.weather import Weather
from node.storage.archive import ArchiveStore
from node.storage.safety import RecordWrite

path = Path(sys.argv[1])
weather = Weather("node0", path / "faults.json", Journal(path / "faults.jsonl", "node0"))
vfs = BadVfs(weather)
store = ArchiveStore(path / "chain.db", owner=b"x", vfs=VFS_NAME)
store.commit([RecordWrite((Put("t", b"k", b"v"),), is_synced=True)])
weather.is_write_torn = True
store.commit([RecordWrite((Put("t", b"k2", b"v" * 100),), is_synced=True)])
"""


def test_a_torn_write_kills_the_process_and_only_what_was_reported_is_there(tmp_path):
    done = subprocess.run([sys.executable, "-c", TORN, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    (torn,) = map(json.loads, (tmp_path / "faults.jsonl").read_text().splitlines())
    assert (torn["event"], torn["file"]) == ("torn", "chain.db-wal")
    store = ArchiveStore(tmp_path / "chain.db", owner=b"x")
    assert store.read_range("t", b"", 10) == [Record(b"k", b"v")]
    store.close()


# ---- the table -----------------------------------------------------------------------------


def test_a_reader_ends_what_is_over_without_anybody_writing(tmp_path, monkeypatch):
    path = tmp_path / "faults.json"
    fault = decode_fault({"kind": "kill", "nodes": ["0"]}, NODES)
    now_ms = [1_000]
    monkeypatch.setattr("localnet.faults.table.wall_ms", lambda: now_ms[0])
    seen = []
    reader = TableReader(path, lambda reader: seen.append([each.id for each in reader.active]))
    reader.refresh()
    write_table(path, (ActiveFault(1, fault, 1_000, 2_000), ActiveFault(2, fault, 1_000, None)))
    reader.refresh()
    now_ms[0] = 2_000
    reader.refresh()
    assert seen == [[1, 2], [2]]


def test_the_table_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "faults.json"
    assert read_table(path) == ()
    fault = decode_fault({"kind": "delay", "links": ["0>1"], "delay_ms": 5}, NODES)
    write_table(path, (ActiveFault(3, fault, 5, 9),))
    assert read_table(path) == (ActiveFault(3, fault, 5, 9),)
