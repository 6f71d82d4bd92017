import errno

import apsw
import pytest
from structlog.testing import capture_logs

from consensus.types import BatchHeader, SignedBatchHeader
from crypto.types import BATCH_BODY_MAX_BYTES
from node.storage.batches import BatchStore, StoredBatch
from node.storage.disk import BUFFERS_PER_WRITE_MAX, Disk
from node.storage.errors import StorageError
from node.storage.segments import (
    HEADER_MAX_BYTES,
    encode_record,
    parse_record_size,
    segment_path,
)


def make_batch(sequence, author=0, size_bytes=100):
    body = bytes([sequence % 256, author]) * (size_bytes // 2)
    batch_id = bytes([author]) * 16 + sequence.to_bytes(16, "big")
    header = BatchHeader(0, author, sequence, bytes(32), bytes(32), len(body))
    return StoredBatch(batch_id, SignedBatchHeader(header, bytes(64)), body)


class BrokenDisk(Disk):
    """Fails on command; `written_max_bytes` makes each write short."""

    def __init__(self):
        self.sync_error = None
        self.write_error = None
        self.written_max_bytes = None
        self.syncs = 0

    def write(self, file, buffers):
        if self.write_error is not None:
            raise OSError(self.write_error, "injected")
        if self.written_max_bytes is not None:
            return super().write(file, [bytes(buffers[0])[: self.written_max_bytes]])
        return super().write(file, buffers)

    def sync_data(self, file):
        if self.sync_error is not None:
            raise OSError(self.sync_error, "injected")
        self.syncs += 1
        super().sync_data(file)


@pytest.fixture
def open_store(tmp_path):
    opened = []

    def open_(**options):
        store = BatchStore(tmp_path / "segments", **options)
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store.close()


def stored(batch):
    return batch.signed_header, batch.body


def test_a_stored_batch_is_found_again_also_after_reopening(open_store):
    batches = [make_batch(1), make_batch(2, size_bytes=1 << 20), make_batch(1, author=3)]
    store = open_store()
    store.commit(batches[:2])
    store.commit(batches[2:])
    for _ in range(2):
        assert [store.get(batch.batch_id) for batch in batches] == [stored(b) for b in batches]
        assert store.get(bytes(32)) is None
        store.close()
        store = open_store()


def test_one_sync_serves_all_batches_of_a_commit(open_store):
    disk = BrokenDisk()
    open_store(disk=disk).commit([make_batch(sequence) for sequence in range(1, 30)])
    assert disk.syncs == 1


def test_a_batch_is_stored_once(open_store, tmp_path):
    store = open_store()
    store.commit([make_batch(1), make_batch(1)])
    (segment,) = (tmp_path / "segments").glob("*.seg")
    content = segment.read_bytes()
    store.commit([make_batch(1)])
    assert segment.read_bytes() == content
    assert content.count(make_batch(1).body) == 1


def test_headers_above_cursors_come_by_author_and_sequence(open_store):
    store = open_store()
    store.commit([make_batch(2, author=1), make_batch(1, author=1), make_batch(3, author=1)])
    store.commit([make_batch(1, author=0)])
    places = [
        (header.header.author, header.header.sequence)
        for _, header in store.headers_above({1: 1, 7: 9})
    ]
    assert places == [(0, 1), (1, 2), (1, 3)]
    assert store.headers_above({0: 0})[0] == (make_batch(1).batch_id, make_batch(1).signed_header)


def test_full_segments_are_followed_by_new_ones(open_store, tmp_path):
    store = open_store(segment_size_bytes=1000)
    batches = [make_batch(sequence, size_bytes=300) for sequence in range(1, 11)]
    store.commit(batches)
    store.close()
    names = sorted(path.name for path in (tmp_path / "segments").glob("*.seg"))
    assert names == ["0000000001.seg", "0000000002.seg", "0000000003.seg", "0000000004.seg"]
    store = open_store(segment_size_bytes=1000)
    store.commit([make_batch(11)])
    assert all(store.get(batch.batch_id) == stored(batch) for batch in batches)


def test_a_lost_index_is_rebuilt_from_the_segments(open_store, tmp_path):
    store = open_store(segment_size_bytes=1000)
    batches = [make_batch(sequence, size_bytes=300) for sequence in range(1, 11)]
    store.commit(batches)
    store.close()
    for path in (tmp_path / "segments").glob("index.db*"):
        path.unlink()
    store = open_store(segment_size_bytes=1000)
    assert all(store.get(batch.batch_id) == stored(batch) for batch in batches)
    assert len(store.headers_above({})) == 10


@pytest.mark.parametrize("kept_bytes", [1, 20, 60, 200])
def test_a_torn_tail_is_cut_off_and_what_follows_is_readable(open_store, tmp_path, kept_bytes):
    store = open_store()
    store.commit([make_batch(1)])
    store.close()
    path = segment_path(tmp_path / "segments", 1)
    whole = path.read_bytes()
    # A second record that a crash left unfinished, and that no index knows.
    path.write_bytes(whole + whole[:kept_bytes])
    with capture_logs() as logged:
        store = open_store()
    assert [(line["event"], line["size_bytes"]) for line in logged] == [
        ("torn_tail_cut_off", kept_bytes)
    ]
    assert path.read_bytes() == whole
    store.commit([make_batch(2)])
    store.close()
    with capture_logs() as logged:
        store = open_store()
    assert logged == []
    assert store.get(make_batch(2).batch_id) == stored(make_batch(2))


def test_what_was_synced_but_not_indexed_is_indexed_on_opening(open_store, tmp_path):
    directory = tmp_path / "segments"
    store = open_store()
    store.commit([make_batch(1)])
    store.close()
    index = (directory / "index.db").read_bytes()
    store = open_store()
    store.commit([make_batch(2)])
    store.close()
    (directory / "index.db").write_bytes(index)
    assert open_store().get(make_batch(2).batch_id) == stored(make_batch(2))


def test_a_flipped_bit_is_an_error_on_reading(open_store, tmp_path):
    store = open_store()
    store.commit([make_batch(1)])
    path = segment_path(tmp_path / "segments", 1)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError) as caught:
        store.get(make_batch(1).batch_id)
    assert caught.value.code == "storage.corrupt"


def test_a_segment_shorter_than_its_index_is_an_error_on_opening(open_store, tmp_path):
    store = open_store()
    store.commit([make_batch(1)])
    store.close()
    path = segment_path(tmp_path / "segments", 1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError) as caught:
        open_store()
    assert caught.value.code == "storage.corrupt"


def test_damage_before_the_last_segment_is_an_error_on_opening(open_store, tmp_path):
    store = open_store(segment_size_bytes=1000)
    store.commit([make_batch(sequence, size_bytes=600) for sequence in range(1, 6)])
    store.close()
    for path in (tmp_path / "segments").glob("index.db*"):
        path.unlink()
    path = segment_path(tmp_path / "segments", 1)
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError) as caught:
        open_store()
    assert caught.value.code == "storage.corrupt"


def test_short_writes_are_completed(open_store):
    disk = BrokenDisk()
    disk.written_max_bytes = 7
    store = open_store(disk=disk)
    store.commit([make_batch(1), make_batch(2)])
    assert store.get(make_batch(2).batch_id) == stored(make_batch(2))


class CountingDisk(Disk):
    def __init__(self):
        self.buffers = []

    def write(self, file, buffers):
        self.buffers.append(len(buffers))
        return super().write(file, buffers)


def test_one_write_takes_only_as_many_buffers_as_the_system_does(open_store):
    disk = CountingDisk()
    store = open_store(disk=disk)
    batches = [make_batch(sequence) for sequence in range(1, BUFFERS_PER_WRITE_MAX)]
    store.commit(batches)
    # A record is two buffers: what comes before the body, and the body.
    assert disk.buffers == [BUFFERS_PER_WRITE_MAX, 2 * len(batches) - BUFFERS_PER_WRITE_MAX]
    assert store.get(batches[-1].batch_id) == stored(batches[-1])


def test_no_record_begins_with_sizes_beyond_the_bounds():
    head, body = encode_record(*make_batch(1))
    magic, checksum_and_id = head[:4], head[12:52]

    def begin(header_size, body_size):
        sizes = header_size.to_bytes(4, "big") + body_size.to_bytes(4, "big")
        return magic + sizes + checksum_and_id

    assert parse_record_size(head[:52]) == len(head) + len(body)
    largest = begin(HEADER_MAX_BYTES, BATCH_BODY_MAX_BYTES)
    assert parse_record_size(largest) == 52 + HEADER_MAX_BYTES + BATCH_BODY_MAX_BYTES
    for sizes in ((HEADER_MAX_BYTES + 1, 1), (1, BATCH_BODY_MAX_BYTES + 1), (0, 1), (1, 0)):
        assert parse_record_size(begin(*sizes)) is None


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "storage.full"), (errno.EIO, "storage.failed")]
)
def test_a_failed_write_is_final(open_store, number, code):
    disk = BrokenDisk()
    store = open_store(disk=disk)
    disk.write_error = number
    for _ in range(2):
        with pytest.raises(StorageError) as caught:
            store.commit([make_batch(1)])
        assert caught.value.code == code
        disk.write_error = None
    assert store.get(make_batch(1).batch_id) is None


def test_a_failed_sync_is_final_and_the_batch_is_not_there(open_store):
    disk = BrokenDisk()
    store = open_store(disk=disk)
    disk.sync_error = errno.EIO
    with pytest.raises(StorageError):
        store.commit([make_batch(1)])
    disk.sync_error = None
    with pytest.raises(StorageError):
        store.commit([make_batch(2)])
    assert store.get(make_batch(1).batch_id) is None


def test_an_index_that_does_not_know_an_older_segment_is_an_error_and_is_made_anew(
    open_store, tmp_path
):
    directory = tmp_path / "segments"
    batches = [make_batch(sequence, size_bytes=600) for sequence in range(1, 8)]
    store = open_store(segment_size_bytes=1000)
    store.commit(batches)
    store.close()
    index = apsw.Connection(str(directory / "index.db"))
    index.execute("DELETE FROM segment WHERE number = 1")
    index.close()
    with pytest.raises(StorageError) as caught:
        open_store(segment_size_bytes=1000)
    assert caught.value.code == "storage.corrupt"
    for path in directory.glob("index.db*"):
        path.unlink()
    store = open_store(segment_size_bytes=1000)
    assert all(store.get(batch.batch_id) == stored(batch) for batch in batches)


@pytest.mark.parametrize("number", [1, 2])
def test_a_segment_that_is_missing_is_an_error_also_without_an_index(open_store, tmp_path, number):
    directory = tmp_path / "segments"
    store = open_store(segment_size_bytes=1000)
    store.commit([make_batch(sequence, size_bytes=600) for sequence in range(1, 8)])
    store.close()
    lost = segment_path(directory, number)
    for path in (lost, *directory.glob("index.db*")):
        path.unlink()
    with pytest.raises(StorageError) as caught:
        open_store(segment_size_bytes=1000)
    assert caught.value.code == "storage.corrupt"
    assert str(lost) in caught.value.message


def test_a_damaged_header_in_the_index_is_an_error(open_store, tmp_path):
    store = open_store()
    store.commit([make_batch(1)])
    store.close()
    index = apsw.Connection(str(tmp_path / "segments" / "index.db"))
    index.execute("UPDATE batch SET signed_header = x'c1'")
    index.close()
    store = open_store()
    for read in (lambda: store.headers_above({}), lambda: store.commit([make_batch(1)])):
        with pytest.raises(StorageError) as caught:
            read()
        assert caught.value.code == "storage.corrupt"


class FailingDisk(Disk):
    """Fails at one operation of its choice, and has nothing more to say after that."""

    def __init__(self, fails_at):
        self.left = fails_at

    def _step(self):
        if self.left == 0:
            raise OSError(errno.ENOSPC, "injected")
        self.left -= 1

    def open_append(self, path):
        self._step()
        return super().open_append(path)

    def write(self, file, buffers):
        self._step()
        # Short writes, so that records are torn at many places.
        return super().write(file, [bytes(buffers[0])[:150]])

    def sync_data(self, file):
        self._step()
        super().sync_data(file)

    def sync_directory(self, path):
        self._step()
        super().sync_directory(path)

    def truncate(self, path, size_bytes):
        self._step()
        super().truncate(path, size_bytes)


def test_a_disk_that_fails_at_any_operation_loses_nothing_that_was_reported(tmp_path):
    batches = [make_batch(sequence, size_bytes=300) for sequence in range(1, 10)]
    fails_at, is_done, codes = 0, False, set()
    while not is_done:
        directory = tmp_path / str(fails_at) / "segments"
        reported = []
        store = None
        try:
            store = BatchStore(directory, disk=FailingDisk(fails_at), segment_size_bytes=1000)
            for at in range(0, len(batches), 3):
                store.commit(batches[at : at + 3])
                reported += batches[at : at + 3]
            is_done = True
        except StorageError as error:
            codes.add(error.code)
        if store is not None:
            store.close()
        again = BatchStore(directory, segment_size_bytes=1000)
        assert all(again.get(batch.batch_id) == stored(batch) for batch in reported)
        again.commit(batches)
        assert all(again.get(batch.batch_id) == stored(batch) for batch in batches)
        again.close()
        fails_at += 1
    assert fails_at > 20
    assert codes == {"storage.full"}
