"""Durable first: what follows a write leaves only when the write could not be forgotten.

A `Send` names the records that it waits for (`Send.after`) and waits for no others; a record is
durable when the group commit that holds it has returned. If a write fails, its store's committer
raises, the node ends, and whatever waited for that write never leaves.

The same holds for what is dropped. Safety records may go because the archive holds what they held,
but nothing waits for the archive: a power cut can take its newest writes back. So a drop waits
until the archive was synced after it was asked for. A node that loses power then still has each
block in one store or the other, also if all members lose power at once.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeVar

from consensus.effects import Delete, Persist, Send, Store, StoreBatch, Token
from node.storage.batches import StoredBatch
from node.storage.records import RecordWrite

DROPS_PER_SYNC: Final = 16
"""Drops that are gathered before the archive is synced for them: a sync costs as much as a vote's,
and records that stay a little longer cost nothing."""

T_contra = TypeVar("T_contra", contravariant=True)


class Writer(Protocol[T_contra]):
    """A store's queue (`node.storage.group_commit.GroupCommitter`)."""

    def submit(self, item: T_contra, on_durable: Callable[[], None] | None = None) -> None:
        """Write in the order of submission; `on_durable` is called once the item is durable, and
        never if that fails."""
        ...


class Durability:
    """Hands writes to their stores, and holds each send back until its writes are durable."""

    def __init__(
        self,
        *,
        safety: Writer[RecordWrite],
        archive: Writer[RecordWrite],
        batches: Writer[StoredBatch],
        send_now: Callable[[Send], None],
    ) -> None:
        self._safety = safety
        self._archive = archive
        self._batches = batches
        self._send_now = send_now
        self._asked: dict[str, int] = {}
        """The newest write that each component asked for; its tokens rise."""
        self._not_durable: set[Token] = set()
        self._waiting: dict[Token, list[_WaitingSend]] = {}
        self._drops: dict[str, bytes] = {}
        """What may go from the safety store once the archive is synced: below which key, by
        table."""
        self._drops_gathered = 0

    def send(self, effect: Send) -> None:
        """Let a message leave as soon as everything that it names is durable. All of that was
        asked for before: what is unknown would pass for durable."""
        for token in effect.after:
            assert token.number <= self._asked.get(token.component, 0), "the write was asked for"
        missing = {token for token in effect.after if token in self._not_durable}
        if not missing:
            self._send_now(effect)
            return
        waiting = _WaitingSend(effect, missing)
        for token in sorted(missing):
            self._waiting.setdefault(token, []).append(waiting)

    def persist(self, effect: Persist) -> None:
        """Begin to write records. Raises the store's error if it has failed before."""
        self._ask(effect.token)
        if effect.store is Store.SAFETY:
            store, write = self._safety, RecordWrite(effect.puts)
            self._gather_drops(effect.deletes)
        else:
            store, write = self._archive, RecordWrite(effect.puts, effect.deletes)
        store.submit(write, lambda: self._on_durable(effect.token))

    def store_batch(self, effect: StoreBatch, on_stored: Callable[[], None]) -> None:
        """Begin to write a batch; `on_stored` is called once it is durable, after what waited for
        it has left. Raises the store's error if it has failed before."""

        def on_durable() -> None:
            self._on_durable(effect.token)
            on_stored()

        self._ask(effect.token)
        batch = StoredBatch(effect.batch_id, effect.signed_header, effect.body)
        self._batches.submit(batch, on_durable)

    def _ask(self, token: Token) -> None:
        self._not_durable.add(token)
        self._asked[token.component] = max(self._asked.get(token.component, 0), token.number)

    def _gather_drops(self, deletes: Iterable[Delete]) -> None:
        for delete in deletes:
            self._drops[delete.table] = max(self._drops.get(delete.table, b""), delete.below)
            self._drops_gathered += 1
        if self._drops_gathered >= DROPS_PER_SYNC:
            dropped = tuple(Delete(table, below) for table, below in sorted(self._drops.items()))
            self._drops.clear()
            self._drops_gathered = 0
            self._archive.submit(
                RecordWrite((), is_synced=True),
                lambda: self._safety.submit(RecordWrite((), dropped)),
            )

    def _on_durable(self, token: Token) -> None:
        self._not_durable.remove(token)
        for waiting in self._waiting.pop(token, ()):
            waiting.missing.remove(token)
            if not waiting.missing:
                self._send_now(waiting.effect)


class _WaitingSend:
    __slots__ = ("effect", "missing")

    def __init__(self, effect: Send, missing: set[Token]) -> None:
        self.effect = effect
        self.missing = missing
