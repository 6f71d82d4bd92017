import errno
import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.effects import Delete, Put
from node.exit_codes import ExitCode
from node.storage.archive import ArchiveStore
from node.storage.errors import DoubleSignError, SafetyError, StorageError
from node.storage.records import Record, RecordFile, RecordWrite
from node.storage.safety import WRITE_ONCE_TABLES, SafetyStore
from node.storage.wal import is_commit_lost

OWNER = b"chain and member"


def key(number):
    return number.to_bytes(8, "big")


def puts(*items):
    return RecordWrite(tuple(Put(*item) for item in items))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "safety.db"


@pytest.fixture
def open_safety(path):
    opened = []

    def open_(**options):
        store = SafetyStore(path, **{"owner": OWNER, "create": True, **options})
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store.close()


def test_what_was_committed_is_there_after_reopening(open_safety):
    store = open_safety()
    store.commit([puts(("vote", key(1), b"a"), ("safety", b"state", b"old"))])
    store.commit([puts(("vote", key(2), b"b"), ("safety", b"state", b"new"))])
    store.close()
    assert open_safety(create=False).load() == {
        "vote": {key(1): b"a", key(2): b"b"},
        "safety": {b"state": b"new"},
    }


@pytest.mark.parametrize("table", sorted(WRITE_ONCE_TABLES))
def test_a_second_value_for_a_write_once_key_is_refused_and_nothing_is_written(open_safety, table):
    store = open_safety()
    store.commit([puts((table, key(1), b"first"))])
    with pytest.raises(DoubleSignError) as caught:
        store.commit([puts(("other", b"k", b"v")), puts((table, key(1), b"second"))])
    assert caught.value.code == "safety.double_sign"
    assert (caught.value.table, caught.value.key) == (table, key(1))
    assert store.load() == {table: {key(1): b"first"}}


def test_two_values_for_one_key_in_one_transaction_are_refused(open_safety):
    store = open_safety()
    with pytest.raises(DoubleSignError):
        store.commit([puts(("vote", key(1), b"a"), ("vote", key(1), b"b"))])
    assert store.load() == {}


def test_the_same_value_again_is_no_contradiction(open_safety):
    store = open_safety()
    store.commit([puts(("vote", key(1), b"a"))])
    store.commit([puts(("vote", key(1), b"a"))])
    assert store.load() == {"vote": {key(1): b"a"}}


def test_a_dropped_write_once_key_never_comes_back_with_another_value(open_safety):
    store = open_safety()
    store.commit([puts(("vote", key(5), b"a"))])
    store.commit([RecordWrite((), (Delete("vote", key(6)),))])
    store.commit([RecordWrite((), (Delete("vote", key(3)),))])
    assert store.load() == {}
    with pytest.raises(DoubleSignError):
        store.commit([puts(("vote", key(5), b"b"))])
    store.commit([puts(("vote", key(6), b"c"))])
    assert store.load() == {"vote": {key(6): b"c"}}


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(sorted(WRITE_ONCE_TABLES)[:2]), st.integers(0, 5), st.binary(max_size=2)
        ),
        max_size=12,
    )
)
def test_write_once_tables_keep_their_first_values(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("safety") / "safety.db"
    expected = {}
    store = SafetyStore(path, owner=OWNER, create=True)
    try:
        for table, number, value in steps:
            first = expected.setdefault((table, key(number)), value)
            if first == value:
                store.commit([puts((table, key(number), value))])
            else:
                with pytest.raises(DoubleSignError):
                    store.commit([puts((table, key(number), value))])
        assert {
            (table, key_): value
            for table, records in store.load().items()
            for key_, value in records.items()
        } == expected
    finally:
        store.close()


def test_a_missing_file_is_amnesia_unless_a_new_home_asks_for_one(open_safety):
    with pytest.raises(SafetyError) as caught:
        open_safety(create=False)
    assert caught.value.code == "safety.missing"
    assert caught.value.exit_code == ExitCode.REFUSED_TO_SIGN


def test_an_empty_file_is_damage_unless_a_new_home_asks_for_one(open_safety, path):
    path.touch()
    with pytest.raises(StorageError) as caught:
        open_safety(create=False)
    assert caught.value.code == "storage.corrupt"
    store = open_safety()
    store.close()
    assert open_safety(create=False).load() == {}


def test_the_file_cannot_be_opened_twice_in_one_process(open_safety):
    open_safety()
    with pytest.raises(SafetyError) as caught:
        open_safety()
    assert caught.value.code == "safety.locked"


def test_the_file_cannot_be_opened_by_another_process(open_safety, path):
    open_safety()
    program = (
        "import sys, pathlib\n"
        "from node.storage.safety import SafetyStore\n"
        "from node.storage.errors import SafetyError\n"
        "try: SafetyStore(pathlib.Path(sys.argv[1]), owner=b'chain and member')\n"
        "except SafetyError as error: print(error.code); sys.exit(error.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (71, "safety.locked")


def test_a_file_that_exists_already_cannot_be_opened_twice_either(open_safety):
    open_safety().close()
    open_safety(create=False)
    with pytest.raises(SafetyError) as caught:
        open_safety(create=False)
    assert caught.value.code == "safety.locked"


def test_closing_releases_the_lock(open_safety):
    open_safety().close()
    open_safety(create=False)


def test_records_of_another_member_or_chain_are_refused(open_safety):
    open_safety().close()
    with pytest.raises(StorageError) as caught:
        open_safety(owner=b"somebody else")
    assert caught.value.code == "storage.foreign"


def test_an_archive_is_not_taken_for_safety_records(open_safety, path):
    ArchiveStore(path, owner=OWNER).close()
    with pytest.raises(StorageError) as caught:
        open_safety()
    assert caught.value.code == "storage.foreign"


def test_a_flipped_bit_in_a_value_is_an_error(open_safety, path):
    store = open_safety()
    store.commit([puts(("vote", key(1), b"the value of a record"))])
    store.close()
    data = bytearray(path.read_bytes())
    data[data.index(b"the value of a record") + 4] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError) as caught:
        open_safety().load()
    assert caught.value.code == "storage.corrupt"
    assert caught.value.exit_code == ExitCode.STORAGE


def make_log(open_safety, path, commits=12):
    """The log of a process that was killed after this many commits, and where its frames begin."""
    store = open_safety()
    ends = []
    log = path.with_name("safety.db-wal")
    for number in range(commits):
        store.commit([puts(("vote", key(number), bytes(500)))])
        ends.append(log.stat().st_size)
    return log.read_bytes(), ends


def test_the_log_of_a_killed_process_is_whole(open_safety, path):
    data, _ = make_log(open_safety, path)
    assert not is_commit_lost(data)
    assert not is_commit_lost(b"")
    assert not is_commit_lost(bytes(4096))


@settings(max_examples=60)
@given(share=st.floats(0, 1), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_log_is_no_end_of_it(tmp_path_factory, share, bit):
    path = tmp_path_factory.mktemp("log") / "safety.db"
    store = SafetyStore(path, owner=OWNER, create=True)
    ends = []
    log = path.with_name("safety.db-wal")
    for number in range(6):
        store.commit([puts(("vote", key(number), bytes(500)))])
        ends.append(log.stat().st_size)
    data = bytearray(log.read_bytes())
    store.close()
    # Of what the last transaction wrote nobody can tell damage from a power cut.
    data[int(share * (ends[-3] - 1))] ^= 1 << bit
    assert is_commit_lost(bytes(data))


def test_a_transaction_torn_by_a_power_cut_is_the_end_of_the_log(open_safety, path):
    data, ends = make_log(open_safety, path)
    for cut in (ends[-2] + 1, ends[-2] + 24, ends[-1] - 1):
        assert not is_commit_lost(data[:cut])
        assert not is_commit_lost(data[:cut] + bytes(ends[-1] - cut))


def test_a_damaged_log_ends_the_start_and_is_kept(open_safety, path, tmp_path):
    data, ends = make_log(open_safety, path)
    copy = tmp_path / "copy" / "safety.db"
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    damaged = bytearray(data)
    damaged[ends[3] + 100] ^= 1
    copy.with_name("safety.db-wal").write_bytes(damaged)
    for _ in range(2):
        with pytest.raises(StorageError) as caught:
            SafetyStore(copy, owner=OWNER)
        assert caught.value.code == "storage.corrupt"
    copy.with_name("safety.db-wal").write_bytes(data)
    store = SafetyStore(copy, owner=OWNER)
    assert len(store.load()["vote"]) == 12
    store.close()


def test_a_log_that_was_begun_anew_is_whole(open_safety, path):
    store = open_safety()
    log = path.with_name("safety.db-wal")
    for number in range(60):
        # Large enough that SQLite moves the log into the database and writes it from the front.
        store.commit([puts(("vote", key(number), bytes(200_000)))])
        if number % 7 == 0:
            assert not is_commit_lost(log.read_bytes())
    assert log.stat().st_size < 60 * 200_000


def test_a_file_that_is_no_database_is_an_error(open_safety, path):
    path.write_bytes(b"certainly not a database" * 100)
    with pytest.raises(StorageError) as caught:
        open_safety()
    assert caught.value.code == "storage.corrupt"


class BrokenVfs(apsw.VFS):
    """A disk that fails on command."""

    def __init__(self):
        self.fail_sync = False
        self.fail_write = None
        super().__init__("broken", "unix")

    def xOpen(self, name, flags):  # noqa: N802 - SQLite's name
        return BrokenFile(self, name, flags)


class BrokenFile(apsw.VFSFile):
    def __init__(self, vfs, name, flags):
        self.vfs = vfs
        super().__init__("unix", name, flags)

    def xSync(self, flags):  # noqa: N802
        if self.vfs.fail_sync:
            raise apsw.IOError
        super().xSync(flags)

    def xWrite(self, data, offset):  # noqa: N802
        if self.vfs.fail_write is not None:
            raise self.vfs.fail_write
        super().xWrite(data, offset)


class FailingVfs(apsw.VFS):
    """A disk that fails from one operation on, whichever it is."""

    def __init__(self, fails_at):
        self.left = fails_at
        super().__init__("failing", "unix")

    def step(self):
        if self.left == 0:
            raise apsw.FullError
        self.left -= 1

    def xOpen(self, name, flags):  # noqa: N802
        return FailingFile(self, name, flags)


class FailingFile(apsw.VFSFile):
    def __init__(self, vfs, name, flags):
        self.vfs = vfs
        super().__init__("unix", name, flags)

    def xSync(self, flags):  # noqa: N802
        self.vfs.step()
        super().xSync(flags)

    def xWrite(self, data, offset):  # noqa: N802
        self.vfs.step()
        super().xWrite(data, offset)

    def xTruncate(self, size):  # noqa: N802
        self.vfs.step()
        super().xTruncate(size)


# What SQLite does to undo the failed operation fails as well, and is of no interest.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_disk_that_fails_at_any_operation_forgets_no_vote_that_was_reported(tmp_path):
    fails_at, is_done, codes = 0, False, set()
    while not is_done:
        path = tmp_path / str(fails_at) / "safety.db"
        path.parent.mkdir()
        vfs = FailingVfs(fails_at)
        reported, store = [], None
        try:
            store = SafetyStore(path, owner=OWNER, create=True, vfs="failing")
            for number in range(4):
                store.commit([puts(("vote", key(number), b"v"), ("safety", b"state", key(number)))])
                reported.append(number)
            is_done = True
        except StorageError as error:
            codes.add(error.code)
        if store is not None:
            vfs.left = -1
            store.close()
        vfs.unregister()
        again = SafetyStore(path, owner=OWNER, create=store is None)
        records = again.load()
        assert {key(number) for number in reported} <= set(records.get("vote", {}))
        # All of a transaction or nothing of it.
        newest = max(records["vote"]) if records else None
        assert records.get("safety", {}).get(b"state") == newest
        again.close()
        fails_at += 1
    assert fails_at > 10
    assert codes == {"storage.full"}


def test_an_archive_whose_second_connection_fails_leaves_none_open(tmp_path, monkeypatch):
    opened = []

    def open_once(*arguments, **options):
        if opened:
            raise StorageError("storage.full", "no room for the second")
        opened.append(RecordFile(*arguments, **options))
        return opened[0]

    monkeypatch.setattr("node.storage.archive.RecordFile", open_once)
    path = tmp_path / "chain.db"
    with pytest.raises(StorageError, match="no room for the second"):
        ArchiveStore(path, owner=OWNER)
    held = [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()]
    assert [each for each in held if each.startswith(str(path))] == []


@pytest.fixture
def broken_vfs():
    vfs = BrokenVfs()
    yield vfs
    vfs.unregister()


def test_after_a_failed_sync_the_store_refuses_everything(open_safety, broken_vfs):
    store = open_safety(vfs="broken")
    store.commit([puts(("vote", key(1), b"a"))])
    broken_vfs.fail_sync = True
    with pytest.raises(StorageError) as caught:
        store.commit([puts(("vote", key(2), b"b"))])
    assert caught.value.code == "storage.failed"
    broken_vfs.fail_sync = False
    with pytest.raises(StorageError):
        store.commit([puts(("vote", key(3), b"c"))])


def test_a_full_disk_has_its_own_code(open_safety, broken_vfs):
    store = open_safety(vfs="broken")
    broken_vfs.fail_write = apsw.FullError()
    with pytest.raises(StorageError) as caught:
        store.commit([puts(("vote", key(1), b"a"))])
    assert caught.value.code == "storage.full"
    # SQLite ignores errors of the disk while closing, but not those of a file made in Python.
    broken_vfs.fail_write = None


@pytest.fixture
def archive(tmp_path):
    store = ArchiveStore(tmp_path / "chain.db", owner=OWNER)
    yield store
    store.close()


def test_the_archive_reads_ranges_in_key_order(archive):
    numbers = [300, 2, 1, 256, 70_000]
    archive.commit([puts(*(("block", key(number), b"%d" % number) for number in numbers))])
    archive.commit([puts(("qc", key(3), b"other table"))])
    rising = [Record(key(number), b"%d" % number) for number in sorted(numbers)]
    assert archive.read_range("block", b"", 100) == rising
    assert archive.read_range("block", key(2), 2) == rising[1:3]
    assert archive.read_range("block", key(299), 2, reverse=True) == [rising[2], rising[1]]
    assert archive.read("block", key(256)) == b"256"
    assert archive.read("block", key(257)) is None


def test_the_archive_overwrites_and_drops(archive):
    archive.commit([puts(("block", key(1), b"a"), ("block", key(2), b"b"))])
    archive.commit([RecordWrite((Put("block", key(2), b"c"),), (Delete("block", key(2)),))])
    assert archive.read_range("block", b"", 10) == [Record(key(2), b"c")]


def test_the_archive_notices_a_flipped_bit(tmp_path):
    path = tmp_path / "chain.db"
    store = ArchiveStore(path, owner=OWNER)
    store.commit([puts(("block", key(1), b"the bytes of a block"))])
    store.close()
    data = bytearray(path.read_bytes())
    data[data.index(b"the bytes of a block")] ^= 1
    path.write_bytes(data)
    store = ArchiveStore(path, owner=OWNER)
    with pytest.raises(StorageError) as caught:
        store.read("block", key(1))
    assert caught.value.code == "storage.corrupt"
    store.close()


def test_the_archive_is_synced_when_it_is_asked_for_and_only_then(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("node.storage.records.sync_file", synced.append)
    archive = ArchiveStore(tmp_path / "chain.db", owner=OWNER)
    archive.commit([puts(("block", key(1), b"a"))])
    assert synced == []
    archive.commit([puts(("block", key(2), b"b")), RecordWrite((), is_synced=True)])
    assert synced == [tmp_path / "chain.db-wal"]
    archive.close()


def test_an_archive_whose_sync_failed_refuses_everything(tmp_path, monkeypatch):
    def fail(path):
        raise OSError(errno.EIO, "injected")

    monkeypatch.setattr("node.storage.records.sync_file", fail)
    archive = ArchiveStore(tmp_path / "chain.db", owner=OWNER)
    for write in (RecordWrite((), is_synced=True), puts(("block", key(1), b"a"))):
        with pytest.raises(StorageError) as caught:
            archive.commit([write])
        assert caught.value.code == "storage.failed"
    archive.close()
