"""Durable first: what follows a write leaves only when the write could not be forgotten.

A `Send` names the records that it waits for (`Send.after`) and waits for no others; a record is
durable when the group commit that holds it has returned. If a write fails, its store's committer
raises, the node ends, and whatever waited for that write never leaves.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from consensus.effects import Persist, Send, Store, StoreBatch, Token
from node.storage.batches import StoredBatch
from node.storage.safety import RecordWrite

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
        self._stores = {Store.SAFETY: safety, Store.ARCHIVE: archive}
        self._batches = batches
        self._send_now = send_now
        self._not_durable: set[Token] = set()
        self._waiting: dict[Token, list[_WaitingSend]] = {}

    def send(self, effect: Send) -> None:
        """Let a message leave as soon as everything that it names is durable."""
        missing = {token for token in effect.after if token in self._not_durable}
        if not missing:
            self._send_now(effect)
            return
        waiting = _WaitingSend(effect, missing)
        for token in sorted(missing):
            self._waiting.setdefault(token, []).append(waiting)

    def persist(self, effect: Persist) -> None:
        """Begin to write records. Raises the store's error if it has failed before."""
        self._not_durable.add(effect.token)
        self._stores[effect.store].submit(
            RecordWrite(effect.puts, effect.deletes), lambda: self._on_durable(effect.token)
        )

    def store_batch(self, effect: StoreBatch, on_stored: Callable[[], None]) -> None:
        """Begin to write a batch; `on_stored` is called once it is durable, after what waited for
        it has left. Raises the store's error if it has failed before."""

        def on_durable() -> None:
            self._on_durable(effect.token)
            on_stored()

        self._not_durable.add(effect.token)
        batch = StoredBatch(effect.batch_id, effect.signed_header, effect.body)
        self._batches.submit(batch, on_durable)

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
