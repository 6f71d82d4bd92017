"""The bad world around a node: what is lost, doubled, held back, skewed and refused."""

import errno
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from random import Random

import pytest
import trio

from consensus.effects import Put
from localnet.faults.model import decode_fault
from localnet.faults.table import (
    ActiveFault,
    Journal,
    TableReader,
    read_table,
    wall_ms,
    write_table,
)
from localnet.faults.weather import VFS_NAME, BadDisk, BadNetwork, BadVfs, Weather, read_kind
from node.storage.archive import ArchiveStore
from node.storage.errors import StorageError
from node.storage.records import Record
from node.storage.safety import RecordWrite
from node.transport.network import PeerNetwork
from node.transport.queues import Traffic

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


@pytest.fixture
def network(bench, monkeypatch) -> Iterator[BadNetwork]:
    """A network whose honest part only notes what it is given."""
    sent = []
    monkeypatch.setattr(
        PeerNetwork, "send", lambda self, to, traffic, frame: sent.append((to, frame)) or True
    )
    made = BadNetwork.__new__(BadNetwork)
    made._weather = bench.weather
    made._names = dict(enumerate(NODES))
    made._random = Random(1)
    made._held = 0
    made._nursery = None
    made.sent = sent
    return made


def test_the_wire_tag_is_read_without_decoding():
    assert read_kind(VOTE) == "vote"
    assert read_kind(b"\xdc\x00\x10\xa5batch") == "batch"


def test_lost_messages_are_those_of_the_link_and_kind(bench, network):
    bench.set({"kind": "loss", "links": ["0>1"], "permille": 1_000, "messages": ["vote"]})
    assert not network.send(1, Traffic.CONTROL, VOTE)
    assert network.send(1, Traffic.CONTROL, TIMEOUT)
    assert network.send(2, Traffic.CONTROL, VOTE)
    assert network.sent == [(1, TIMEOUT), (2, VOTE)]
    bench.set()
    assert network.send(1, Traffic.CONTROL, VOTE)
    began, ended = bench.lines()
    assert (began["event"], began["id"], began["by"]) == ("began", 1, "node0")
    assert (ended["event"], ended["messages"]) == ("ended", 1)


def test_a_part_of_the_messages_is_lost(bench, network):
    bench.set({"kind": "loss", "links": ["*>*"], "permille": 300})
    for _ in range(1_000):
        network.send(1, Traffic.CONTROL, VOTE)
    assert 600 < len(network.sent) < 800


def test_doubled_messages_are_sent_twice(bench, network):
    bench.set({"kind": "duplicate", "links": ["0>1"], "permille": 1_000})
    network.send(1, Traffic.CONTROL, VOTE)
    assert network.sent == [(1, VOTE), (1, VOTE)]


async def test_held_back_messages_are_overtaken_and_arrive(bench, network, autojump_clock):
    bench.set(
        {
            "kind": "reorder",
            "links": ["0>1"],
            "permille": 1_000,
            "hold_max_ms": 50,
            "messages": ["vote"],
        }
    )
    async with trio.open_nursery() as nursery:
        network._nursery = nursery
        network.send(1, Traffic.CONTROL, VOTE)
        network.send(1, Traffic.CONTROL, TIMEOUT)
    assert network.sent == [(1, TIMEOUT), (1, VOTE)]


def test_links_of_others_are_not_ours(bench, network):
    bench.set({"kind": "loss", "links": ["1>0"], "permille": 1_000})
    assert network.send(1, Traffic.CONTROL, VOTE)
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
    bench.set()
    store.close()
    del vfs


TORN = """
import sys
from pathlib import Path
from consensus.effects import Put
from localnet.faults.table import Journal
from localnet.faults.weather import BadVfs, VFS_NAME, Weather
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
