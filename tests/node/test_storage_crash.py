"""What was reported durable is there after the process was killed in the middle of its work."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.types import BatchHeader, SignedBatchHeader
from node.storage.archive import ArchiveStore
from node.storage.batch_reader import BatchReader
from node.storage.batches import BatchStore, StoredBatch
from node.storage.errors import StorageError
from node.storage.safety import SafetyStore
from node.storage.segments import segment_path

WRITER = """
import sys
from pathlib import Path

from consensus.effects import Put
from consensus.types import BatchHeader, SignedBatchHeader
from node.storage.archive import ArchiveStore
from node.storage.batches import BatchStore, StoredBatch
from node.storage.records import RecordWrite
from node.storage.safety import SafetyStore

home = Path(sys.argv[1])
safety = SafetyStore(home / "safety.db", owner=b"o", create=True)
archive = ArchiveStore(home / "chain.db", owner=b"o")
batches = BatchStore(home / "segments", segment_size_bytes=100_000)
number = 0
while True:
    number += 1
    key = number.to_bytes(8, "big")
    safety.commit([RecordWrite((Put("vote", key, key * 20), Put("safety", b"state", key)))])
    archive.commit([RecordWrite((Put("block", key, key * 500),))])
    body = key * 1000
    header = BatchHeader(0, 0, number, bytes(32), bytes(32), len(body))
    batches.commit([StoredBatch(key * 4, SignedBatchHeader(header, bytes(64)), body)])
    print(number, flush=True)
"""


@pytest.mark.parametrize("progress", [1, 40])
def test_nothing_reported_durable_is_lost_when_the_process_is_killed(tmp_path, progress):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        reported = 0
        while reported < progress:
            reported = int(process.stdout.readline())
        process.kill()
        # What it said before it died counts as well.
        reported = max([reported, *map(int, process.stdout.read().split())])
    keys = [number.to_bytes(8, "big") for number in range(1, reported + 1)]

    safety = SafetyStore(tmp_path / "safety.db", owner=b"o")
    records = safety.load()
    safety.close()
    assert all(records["vote"][key] == key * 20 for key in keys)
    # The state record moved with the newest vote: both or neither.
    assert records["safety"][b"state"] == max(records["vote"])

    archive = ArchiveStore(tmp_path / "chain.db", owner=b"o")
    assert all(archive.read("block", key) == key * 500 for key in keys)
    archive.close()

    batches = BatchStore(tmp_path / "segments", segment_size_bytes=100_000)
    for key in keys:
        found = batches.get(key * 4)
        assert found is not None
        assert found[1] == key * 1000
    assert len(batches.headers_above({})) in (reported, reported + 1)
    batches.close()


def make_batch(number):
    body = bytes([number]) * 50
    header = BatchHeader(0, 0, number, bytes(32), bytes(32), len(body))
    return StoredBatch(bytes([number]) * 32, SignedBatchHeader(header, bytes(64)), body)


@settings(max_examples=30, deadline=None)
@given(cut_bytes=st.integers(0, 1000), flipped_bit=st.none() | st.integers(0, 8000))
def test_a_tail_that_no_index_knows_yields_whole_batches_from_its_front_and_no_others(
    tmp_path_factory, cut_bytes, flipped_bit
):
    directory = tmp_path_factory.mktemp("segments")
    batches = [make_batch(number) for number in range(1, 6)]
    store = BatchStore(directory)
    store.commit(batches)
    store.close()
    for path in directory.glob("index.db*"):
        path.unlink()
    path = segment_path(directory, 1)
    data = bytearray(path.read_bytes())
    record_bytes = len(data) // len(batches)
    good = max(len(data) - cut_bytes, 0) // record_bytes
    if flipped_bit is not None and flipped_bit // 8 < len(data):
        data[flipped_bit // 8] ^= 1 << flipped_bit % 8
        good = min(good, flipped_bit // 8 // record_bytes)
    path.write_bytes(data[: max(len(data) - cut_bytes, 0)])

    store = BatchStore(directory)
    found = [store.get(batch.batch_id) for batch in batches]
    expected = [(batch.signed_header, batch.body) for batch in batches[:good]]
    assert found == [*expected, *[None] * (len(batches) - good)]
    assert path.stat().st_size == good * record_bytes
    store.commit(batches)
    assert store.get(batches[-1].batch_id) is not None
    store.close()


def test_a_reader_beside_a_running_store_sees_what_was_committed(tmp_path):
    store = BatchStore(tmp_path)
    reader = BatchReader(tmp_path)
    assert reader.get(make_batch(1).batch_id) is None
    store.commit([make_batch(1)])
    assert reader.get(make_batch(1).batch_id) == make_batch(1)[1:]
    assert len(reader.headers_above({})) == 1
    reader.close()
    store.close()


def test_a_reader_of_nothing_is_an_error(tmp_path):
    with pytest.raises(StorageError):
        BatchReader(tmp_path)
