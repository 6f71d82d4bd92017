"""What a node tells its clients, it keeps."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from consensus.messages import BatchMessage, Message
from localnet.sim.oracles.order import OneOrder, shorten
from localnet.sim.oracles.watchers import Watcher
from mempool.batch import decode_batch_body
from mempool.envelope import EnvelopeHeader, decode_envelope
from node.events import ReceiptUpdate
from node.protocol import ReceiptLevel

SILENT_MAX: Final = 8
"""So many envelopes may be executed without one that was told available first: receipts may skip
it, since a block can come before a lane's certificate."""


class Promises(Watcher):
    """Receipt levels only rise within one life of a node, and are never given in vain.

    `available` binds if an honest author's lane carries the envelope. An availability certificate
    needs one honest signature only, so a lane whose author forks it may have two certificates for
    one place, of which one will be ordered."""

    effects = (ReceiptUpdate,)
    messages = (BatchMessage,)

    def __init__(self, genuine: Mapping[bytes, EnvelopeHeader], exempt: Iterable[int] = ()) -> None:
        """`genuine` are the headers of envelopes that follow all rules, by id. The word of
        `exempt` hosts is worth nothing."""
        self._genuine = genuine
        self.exempt = frozenset(exempt)
        self._carried: dict[bytes, set[tuple[int, int]]] = {}
        """By envelope: where it stands in batches of honest authors, as (author, sequence)."""
        self.is_provable: Callable[[int, int], bool] = lambda author, sequence: True
        """Is there anybody left who can show the certificate of a place? Acknowledgers hold the
        batch, but not its certificate, which is synced by nobody at once: if its author never comes
        back, and a power cut took it from all others, the batch cannot be ordered any more."""
        self._batches: set[bytes] = set()
        self.levels: dict[int, dict[bytes, ReceiptLevel]] = {}
        self.available: set[bytes] = set()
        """Every envelope that any node ever declared available."""
        self.heights: dict[bytes, int] = {}
        self.refused: dict[bytes, str] = {}

    def on_start(self, index: int) -> None:
        self.levels[index] = {}

    def on_effect(self, index: int, effect: Any) -> None:
        assert isinstance(effect, ReceiptUpdate)
        levels, envelope_id = self.levels[index], effect.envelope_id
        known = levels.get(envelope_id)
        assert known is None or known.rank < effect.level.rank, (
            f"node {index}: envelope {shorten(envelope_id)} is {effect.level} after {known}"
        )
        assert known is not ReceiptLevel.EXECUTED
        header = self._genuine.get(envelope_id)
        if header is not None:
            who = f"node {index}: envelope {shorten(envelope_id)}"
            assert effect.account == header.sender, f"{who} is told to another account"
            assert effect.code != "envelope.expired" or effect.height >= header.expiry_height, (
                f"{who} is told expired at height {effect.height} of {header.expiry_height}"
            )
        levels[envelope_id] = effect.level
        match effect.level:
            case ReceiptLevel.AVAILABLE:
                self.available.add(envelope_id)
            case ReceiptLevel.ORDERED | ReceiptLevel.EXECUTED:
                height = self.heights.setdefault(envelope_id, effect.height)
                assert height == effect.height, (
                    f"node {index}: envelope {shorten(envelope_id)} is {effect.level} at height"
                    f" {effect.height}, another node has it at {height}"
                )
                assert envelope_id not in self.refused, (
                    f"node {index}: envelope {shorten(envelope_id)} is {effect.level}, and was"
                    " refused"
                )
            case ReceiptLevel.REFUSED:
                assert effect.code is not None
                self.refused[envelope_id] = effect.code
                assert envelope_id not in self.heights, (
                    f"node {index}: envelope {shorten(envelope_id)} is refused, and passed at"
                    f" height {self.heights[envelope_id]}"
                )
            case ReceiptLevel.RECEIVED:
                pass

    def on_sent(self, index: int, message: Message) -> None:
        if not isinstance(message, BatchMessage):
            return
        header = message.signed_header.header
        if header.author != index or header.body_digest in self._batches:
            return
        self._batches.add(header.body_digest)
        for data in decode_batch_body(message.body).envelopes:
            envelope_id = decode_envelope(data).header.envelope_id()
            self._carried.setdefault(envelope_id, set()).add((header.author, header.sequence))

    def outstanding(
        self, order: OneOrder, expiries: Mapping[bytes, int], height: int
    ) -> list[bytes]:
        """Envelopes that were declared available, have not expired, and are not ordered yet."""
        return [
            envelope_id
            for envelope_id in sorted(self.available & self._carried.keys() - order.ordered.keys())
            if expiries[envelope_id] > height
            and any(self.is_provable(*place) for place in self._carried[envelope_id])
        ]

    def validate(
        self,
        order: OneOrder,
        expiries: Mapping[bytes, int],
        taken: Mapping[int, Iterable[bytes]],
        height: int,
        running: Sequence[int],
        find_refusal: Callable[[int, bytes], bytes | None],
    ) -> None:
        """At the end: what was available is ordered, unless it expired; whoever runs has told the
        end of everything that it took (`taken`) or told a level of; and somebody told of
        something."""
        missing = ", ".join(shorten(each) for each in self.outstanding(order, expiries, height))
        assert not missing, f"available, but never ordered: {missing}"
        for envelope_id in self.refused:
            assert envelope_id not in order.passed, f"refused, yet executed: {shorten(envelope_id)}"
        for index in running:
            self._validate_ends(index, order, expiries, taken[index])
        missing = "; ".join(self.find_unrecorded(running, find_refusal))
        assert not missing, missing
        carried = len(self._carried.keys() & order.passed.keys())
        assert self.available or carried < SILENT_MAX, (
            f"{carried} envelopes of honest lanes are executed, and none was ever told available"
        )

    def find_unrecorded(
        self, running: Iterable[int], find_refusal: Callable[[int, bytes], bytes | None]
    ) -> list[str]:
        """What nodes told refused and whose archive does not say so."""
        return [
            f"node {index} told {shorten(each)} refused, and its archive knows nothing of it"
            for index in running
            for each, level in self.levels[index].items()
            if level is ReceiptLevel.REFUSED and find_refusal(index, each) is None
        ]

    def _validate_ends(
        self,
        index: int,
        order: OneOrder,
        expiries: Mapping[bytes, int],
        taken: Iterable[bytes],
    ) -> None:
        certified_height = order.certified.get(index, 0)
        levels = self.levels[index]
        for envelope_id in sorted(levels.keys() | set(taken)):
            level = levels.get(envelope_id)
            if level is ReceiptLevel.EXECUTED or level is ReceiptLevel.REFUSED:
                continue
            who = f"node {index} leaves {level or 'taken'}"
            passed_height = order.passed.get(envelope_id, certified_height + 1)
            assert passed_height > certified_height, f"{who} what height {passed_height} executed"
            assert level is not ReceiptLevel.ORDERED or (
                self.heights[envelope_id] > certified_height
            ), f"{who} what is certified"
            assert expiries[envelope_id] > certified_height, (
                f"{who} what expired at {expiries[envelope_id]}"
            )
