"""What a client hands in is answered, and is turned away for a true reason only.

A node may shut its door: what has expired, what was handed in before, what no room is left for.
Each reason is held against what clients really did, from the headers that they signed.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from localnet.sim.oracles.delivery import OpaqueTransaction, split_opaque
from localnet.sim.oracles.order import OneOrder, shorten
from localnet.sim.oracles.watchers import Watcher
from mempool.admission import (
    OPAQUE_SOURCE_SHARE,
    SENDER_PENDING_MAX_BYTES,
    SENDER_PENDING_MAX_COUNT,
    AdmissionConfig,
)
from mempool.batcher import ITEM_OVERHEAD_BYTES
from mempool.envelope import EnvelopeHeader
from mempool.ledger import NONCE_PAST_MAX_MS
from mempool.nonce import NONCE_WINDOW
from node.events import EnvelopesSubmitted, OpaqueReply, OpaqueSubmitted, SubmitReply
from node.submissions import VERIFYING_MAX_BYTES, VERIFYING_SOURCE_SHARE

_Submitted = EnvelopesSubmitted | OpaqueSubmitted
_Key = tuple[str, int, int]

_REPLIES: Final[dict[type, str]] = {
    EnvelopesSubmitted: "envelopes",
    SubmitReply: "envelopes",
    OpaqueSubmitted: "opaque",
    OpaqueReply: "opaque",
}


class _Denial(NamedTuple):
    """A genuine envelope that came to nothing, and the reason that was given."""

    host: int | None
    """Who said so; None for a receipt."""
    envelope_id: bytes
    code: str


class Door(Watcher):
    """Judges answers in each life of a node, and at rest what only the whole order can tell."""

    effects = (SubmitReply, OpaqueReply)

    def __init__(
        self,
        config: AdmissionConfig,
        genuine: Mapping[bytes, EnvelopeHeader],
        delivered: Mapping[int, int],
        find_time_ms: Callable[[int], int],
        exempt: Iterable[int] = (),
        find_active_height: Callable[[bytes], int | None] = lambda key: None,
        find_ledger_height: Callable[[int], int] = lambda index: 0,
    ) -> None:
        """`genuine` are the headers of envelopes that follow all rules, by id: what else is handed
        in may be turned away for anything, if only it is answered. `delivered` are the newest
        heights by host, `find_time_ms` what a host's clock shows, and `find_active_height` from
        which height on a session key counts, and `find_ledger_height` where a host's ledger stands,
        which after a restart is behind what it delivered before."""
        self._find_active_height = find_active_height
        self._find_ledger_height = find_ledger_height
        self._config = config
        self._genuine = genuine
        self._delivered = delivered
        self._find_time_ms = find_time_ms
        self.exempt = frozenset(exempt)
        self._asked: dict[int, defaultdict[_Key, list[_Submitted]]] = {}
        """By host: what waits for an answer in this life."""
        self.taken: dict[int, dict[bytes, int]] = {}
        """By host: what it told clients in this life that it took, with its encoded size."""
        self._opaque_taken: dict[int, Counter[OpaqueTransaction]] = {}
        """By host: opaque transactions that it took in this life."""
        self._opaque_given: Counter[OpaqueTransaction] = Counter()
        """All that were handed to anybody, in any life."""
        self._opaque_bytes: dict[int, int] = {}
        """By host: opaque transactions handed in in this life."""
        self._denials: list[_Denial] = []
        """Those that are judged at rest."""

    def on_start(self, index: int) -> None:
        self._asked[index] = defaultdict(list)
        self.taken[index] = {}
        self._opaque_bytes[index] = 0
        self._opaque_taken[index] = Counter()

    def on_told(self, index: int, event: Any) -> None:
        """A client hands something to a node that runs."""
        if not isinstance(event, _Submitted):
            return
        self._asked[index][_find_key(event)].append(event)
        if isinstance(event, OpaqueSubmitted):
            self._opaque_bytes[index] += len(event.data) + ITEM_OVERHEAD_BYTES

    def on_effect(self, index: int, effect: Any) -> None:
        waiting = self._asked[index][_find_key(effect)]
        assert waiting, f"node {index} answers request {effect.request} that nobody made"
        asked = waiting.pop(0)
        if isinstance(asked, OpaqueSubmitted):
            self._judge_opaque(index, asked, effect)
            return
        assert len(effect.results) == len(asked.envelopes), f"node {index} answers in part"
        for data, result in zip(asked.envelopes, effect.results, strict=True):
            if result.code is None:
                self.taken[index][result.envelope_id] = len(data)
            elif result.envelope_id in self._genuine:
                self._judge(index, result.envelope_id, result.code, len(data))

    # ---- reasons -------------------------------------------------------------------------------

    def _judge_opaque(self, index: int, asked: OpaqueSubmitted, reply: OpaqueReply) -> None:
        count = len(asked.data) // asked.transaction_size_bytes if reply.code is None else 0
        assert reply.count == count, f"node {index} took {reply.count} of {count} transactions"
        room_bytes = self._config.pool_size_bytes // OPAQUE_SOURCE_SHARE
        is_full = self._opaque_bytes[index] > room_bytes
        is_excused = reply.code is None or is_full or reply.code == "opaque.malformed"
        assert is_excused, f"opaque transactions were not taken: {reply.code} at node {index}"
        if reply.code is None:
            given = list(split_opaque(asked.namespace, asked.transaction_size_bytes, asked.data))
            self._opaque_taken[index].update(given)
            self._opaque_given.update(given)

    def _judge(self, index: int, envelope_id: bytes, code: str, size_bytes: int) -> None:
        header = self._genuine[envelope_id]
        match code:
            case "envelope.expired":
                is_true = header.expiry_height <= self._delivered[index] + 1
            case "envelope.pending":
                is_true = envelope_id in self.taken[index]
            case "nonce.too_old":
                is_true = header.nonce < self._find_time_ms(index) - NONCE_PAST_MAX_MS
            case "key.unauthorised":
                active = self._find_active_height(header.signer)
                is_true = active is not None and self._find_ledger_height(index) + 1 < active
            case "pool.full" | "pool.sender_full":
                is_true = self._is_full(index, size_bytes, header.sender if "_" in code else None)
            case "nonce.duplicate" | "nonce.too_low":
                self._denials.append(_Denial(index, envelope_id, code))
                return
            case _:
                is_true = False
        assert is_true, _describe(_Denial(index, envelope_id, code))

    def _is_full(self, index: int, size_bytes: int, sender: bytes | None) -> bool:
        """Could the pool be full, or what one sender may have of it? All that was ever taken in
        this life counts, and all that waits for its answer."""
        asked = [
            len(data)
            for events in self._asked[index].values()
            for event in events
            if isinstance(event, EnvelopesSubmitted)
            for data in event.envelopes
        ]
        sizes = [
            each
            for envelope_id, each in self.taken[index].items()
            if sender is None
            or envelope_id not in self._genuine
            or self._genuine[envelope_id].sender == sender
        ]
        verifying_bytes = VERIFYING_MAX_BYTES
        count, pool_bytes = self._config.pool_count, self._config.pool_size_bytes
        if sender is not None:
            verifying_bytes //= VERIFYING_SOURCE_SHARE
            count, pool_bytes = SENDER_PENDING_MAX_COUNT, SENDER_PENDING_MAX_BYTES
        return (
            len(sizes) >= count
            or sum(sizes) + size_bytes > pool_bytes
            or sum(asked) + size_bytes > verifying_bytes
        )

    def find_undelivered(
        self, delivered: Counter[OpaqueTransaction], running: Iterable[int]
    ) -> Counter[OpaqueTransaction]:
        """Opaque transactions that those who run took in this life, and that are not ordered."""
        taken: Counter[OpaqueTransaction] = Counter()
        for index in running:
            taken += self._opaque_taken[index]
        return taken - delivered

    # ---- the end -------------------------------------------------------------------------------

    def validate_opaque(
        self, delivered: Counter[OpaqueTransaction], running: Iterable[int]
    ) -> None:
        """At rest: what was taken of opaque transactions is ordered, and nothing oftener than it
        was handed in. `delivered` are those of the order."""
        lost = self.find_undelivered(delivered, running).total()
        assert not lost, f"{lost} opaque transactions were taken, and are not ordered"
        given = self._opaque_given
        doubled = sum(given[each] < count for each, count in delivered.items() if each in given)
        assert not doubled, f"{doubled} opaque transactions are ordered again"

    def validate(
        self, order: OneOrder, refused: Mapping[bytes, str], running: Iterable[int]
    ) -> None:
        """At rest: everything handed to whoever runs is answered, what was taken of it is ordered
        unless it expired, and each refusal of a nonce is one that its like explains. `refused` are
        the reasons in receipts."""
        for index in running:
            unanswered = [key for key, waiting in self._asked[index].items() if waiting]
            assert not unanswered, f"node {index} never answered request {unanswered[0][2]}"
            next_height = self._delivered[index] + 1
            for envelope_id in self.taken[index]:
                header = self._genuine.get(envelope_id)
                assert (
                    header is None
                    or envelope_id in order.ordered
                    or header.expiry_height <= next_height
                ), f"node {index} took {shorten(envelope_id)}, which is neither ordered nor expired"
        spent: defaultdict[tuple[bytes, bytes], list[int]] = defaultdict(list)
        for envelope_id in order.passed:
            header = self._genuine.get(envelope_id)
            if header is None:
                return  # Somebody bends envelopes, and may have spent any nonce.
            spent[header.sender, header.signer].append(header.nonce)
        in_receipts = (_Denial(None, each, code) for each, code in sorted(refused.items()))
        for denial in (*self._denials, *in_receipts):
            header = self._genuine.get(denial.envelope_id)
            if header is None:
                continue
            nonces = spent[header.sender, header.signer]
            match denial.code:
                case "nonce.duplicate":
                    is_true = header.nonce in nonces
                case "nonce.too_low":
                    is_true = sum(each > header.nonce for each in nonces) >= NONCE_WINDOW
                case "envelope.expired":
                    is_true = True  # A receipt of that is judged by its height, when it is given.
                case _:
                    is_true = False
            assert is_true, _describe(denial)


def _find_key(each: Any) -> _Key:
    return (_REPLIES[type(each)], each.source, each.request)


def _describe(denial: _Denial) -> str:
    where = "in its receipt" if denial.host is None else f"at node {denial.host}"
    return (
        f"a genuine envelope was not taken: {denial.code} for {shorten(denial.envelope_id)} {where}"
    )
