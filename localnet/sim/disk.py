"""Durable records of one machine, and what may befall them: lost tails, torn ends, flipped bits."""

from collections import deque
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any, Final

from consensus.effects import Delete, Persist, Put, Store, StoreBatch
from consensus.types import SignedBatchHeader
from node.storage.errors import StorageError
from node.storage.records import compute_checksum, validate_record
from node.storage.safety import WRITE_ONCE_TABLES
from node.storage.segments import decode_record, decode_stored, encode_record

ARCHIVE_WRITES_LOST_MAX: Final = 1_000
"""A power loss takes back so many writes at most."""

Batch = tuple[SignedBatchHeader, bytes]


class Disk:
    """The durable records of one machine."""

    def __init__(self) -> None:
        self.stores: dict[Store, dict[str, dict[bytes, bytes]]] = {store: {} for store in Store}
        self._flipped: dict[tuple[Store, str, bytes], tuple[int, bytes]] = {}
        """Records that are not as they were written, each with the checksum written beside it
        and its false value."""
        self._torn: tuple[Put, bytes, int] | None = None
        """The last record of a write that a crash cut short, what is there of its value, and the
        checksum that was written ahead of it."""

    def table(self, store: Store, name: str) -> dict[bytes, bytes]:
        """The records of one table."""
        tables = self.stores[store]
        table = tables.get(name)
        if table is None:
            table = tables[name] = {}
        return table

    def apply(self, persist: Persist) -> None:
        """Write the records of one `Persist`, all of them."""
        store = persist.store
        is_safety = store is Store.SAFETY
        for name, key, value in persist.puts:
            table = self.table(store, name)
            if is_safety and name in WRITE_ONCE_TABLES:
                held = table.get(key, value)
                assert held == value, f"second value for write-once {name}"
            table[key] = value

    def drop(self, store: Store, deletes: Iterable[Delete]) -> None:
        """Carry out the deletions of a `Persist`."""
        for delete in deletes:
            table = self.table(store, delete.table)
            for key in [key for key in table if key < delete.below]:
                del table[key]

    def sync_archive(self) -> None:
        """No power cut takes back what was written to the archive so far."""

    def lose_unsynced(self) -> None:
        """Take back what was written and is not synced."""

    def tear(self, effect: Any, random: Random) -> None:
        """Leave the first bytes of a write that was under way."""
        if isinstance(effect, Persist) and effect.puts and effect.puts[-1].value:
            put = effect.puts[-1]
            checksum = compute_checksum(put.table, put.key, put.value)
            self._torn = (put, put.value[: random.randrange(len(put.value))], checksum)

    def flip_bit(self, store: Store, record: int, bit: int) -> bool:
        """Flip one bit of one durable record, both counted modulo what there is; False if the
        store holds nothing."""
        records = sorted(
            (name, key)
            for name, table in self.stores[store].items()
            for key, value in table.items()
            if value
        )
        if not records:
            return False
        name, key = records[record % len(records)]
        value = self.stores[store][name][key]
        false = self.stores[store][name][key] = _flip(value, bit)
        self._flipped[store, name, key] = (compute_checksum(name, key, value), false)
        return True

    def is_damaged(self) -> bool:
        """Is a flipped record still there, neither lost nor overwritten since?"""
        return any(
            self.stores[store].get(name, {}).get(key) == value
            for (store, name, key), (_, value) in self._flipped.items()
        )

    def recover(self) -> None:
        """What a host does before it trusts its records, with the checks of the product's own
        storage: a write that was torn is none, and a record that is damaged ends the process.
        Raises `StorageError`."""
        self._roll_back_torn()
        for (store, name, key), (checksum, false) in self._flipped.items():
            value = self.stores[store].get(name, {}).get(key)
            if value == false:
                validate_record(str(store), name, key, value, checksum)

    def _roll_back_torn(self) -> None:
        if self._torn is None:
            return
        put, kept, checksum = self._torn
        self._torn = None
        try:
            validate_record("log", put.table, put.key, kept, checksum)
        except StorageError:
            return
        raise AssertionError("a torn record passes for a whole one")

    # ---- what recovery and members that lag read (`node.recovery.Archive`) ---------------------

    def read(self, table: str, key: bytes) -> bytes | None:
        """One archived value."""
        return self.table(Store.ARCHIVE, table).get(key)

    def read_range(
        self, table: str, from_key: bytes, limit: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Archived records from a key on, rising or falling."""
        records = self.table(Store.ARCHIVE, table)
        keys = sorted(
            (key for key in records if (key <= from_key if reverse else key >= from_key)),
            reverse=reverse,
        )
        return [(key, records[key]) for key in keys[:limit]]


class NodeDisk(Disk):
    """Everything durable of one node: records, batches, engine snapshots."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: dict[bytes, Batch] = {}
        self.engine_snapshots: dict[int, bytes] = {}
        """Files as the engine's worker writes them."""
        self.is_following = False
        """Does its node sign nothing?"""
        self.is_joining = False
        """Does its node begin with a snapshot of others?"""
        self.join_offer: bytes | None = None
        self.join_chunks: dict[bytes, bytes] = {}
        """What a node that joins has fetched."""
        self.damaged_batches: dict[bytes, bytes] = {}
        """What is on the disk instead of a record of `batches`."""
        self.archive_log: deque[list[tuple[str, bytes, bytes | None]]] = deque(
            maxlen=ARCHIVE_WRITES_LOST_MAX
        )
        """For each archive write what it replaced, so that a power loss can take it back."""

    def apply(self, persist: Persist) -> None:
        """Write the records of one `Persist`, all of them."""
        if persist.store is not Store.ARCHIVE:
            super().apply(persist)
            return
        replaced: list[tuple[str, bytes, bytes | None]] = []
        for name, key, value in persist.puts:
            table = self.table(Store.ARCHIVE, name)
            replaced.append((name, key, table.get(key)))
            table[key] = value
        for name, below in persist.deletes:
            table = self.table(Store.ARCHIVE, name)
            for key in sorted(key for key in table if key < below):
                replaced.append((name, key, table.pop(key)))
        self.archive_log.append(replaced)

    def sync_archive(self) -> None:
        """No power cut takes back what was written to the archive so far."""
        self.archive_log.clear()

    def lose_archive_tail(self, writes: int) -> None:
        """Take back the newest archive writes, newest first."""
        for _ in range(min(writes, len(self.archive_log))):
            for name, key, value in reversed(self.archive_log.pop()):
                table = self.table(Store.ARCHIVE, name)
                if value is None:
                    # One write may put a new key twice.
                    table.pop(key, None)
                else:
                    table[key] = value

    def lose_unsynced(self) -> None:
        self.lose_archive_tail(ARCHIVE_WRITES_LOST_MAX)

    def tear(self, effect: Any, random: Random) -> None:
        if not isinstance(effect, StoreBatch):
            super().tear(effect, random)
            return
        data = b"".join(encode_record(effect.batch_id, effect.signed_header, effect.body))
        # At start the segment is cut off where no whole record follows.
        record = decode_record(data[: random.randrange(len(data))])
        assert record is None, "a torn batch passes for a whole one"

    def flip_batch_bit(self, number: int, bit: int) -> None:
        """Flip one bit of one stored batch, both counted modulo what there is."""
        if self.batches:
            batch_id = sorted(self.batches)[number % len(self.batches)]
            data = b"".join(encode_record(batch_id, *self.batches[batch_id]))
            self.damaged_batches[batch_id] = _flip(data, bit)

    def flip_snapshot_bit(self, number: int, bit: int) -> None:
        """Flip one bit of one of the engine's snapshots, both counted modulo what there is."""
        if self.engine_snapshots:
            height = sorted(self.engine_snapshots)[number % len(self.engine_snapshots)]
            self.engine_snapshots[height] = _flip(self.engine_snapshots[height], bit)

    # ---- what recovery reads (`node.recovery.BatchIndex` and `Batches`) ------------------------

    def headers_above(self, cursors: Mapping[int, int]) -> list[tuple[bytes, SignedBatchHeader]]:
        """Stored batches above each author's cursor."""
        return [
            (batch_id, signed)
            for batch_id, (signed, _) in sorted(self.batches.items())
            if signed.header.sequence > cursors.get(signed.header.author, 0)
        ]

    def find_header(self, batch_id: bytes) -> SignedBatchHeader | None:
        """The signed header of a stored batch."""
        stored = self.batches.get(batch_id)
        return None if stored is None else stored[0]

    def get(self, batch_id: bytes) -> Batch | None:
        """A stored batch. Raises `StorageError` if it is damaged."""
        data = self.damaged_batches.get(batch_id)
        if data is not None:
            record = decode_stored(data, batch_id, "segment")
            return record.signed_header, record.body
        return self.batches.get(batch_id)


def _flip(data: bytes, bit: int) -> bytes:
    value = bytearray(data)
    bit %= 8 * len(value)
    value[bit // 8] ^= 1 << bit % 8
    return bytes(value)
