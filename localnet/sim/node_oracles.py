"""What must hold for whole nodes: one order, one result, and every promise kept.

The oracles see what nodes ask their hosts for and what leaves their engines, never their insides.
`validate_replay` is different: it repeats a chain with the product's own code, so it finds what
differs between a run and its repetition, and not what is wrong in both.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from consensus.effects import Alarm, Halt, Misbehaviour, Persist, Store, compute_key
from consensus.messages import BatchMessage, Message
from consensus.types import Block, CheckpointHeader, StateCertificate
from crypto.codec import encode
from crypto.scheme import IdentityScheme, SignatureScheme
from localnet.sim.execution import Execution
from localnet.sim.oracles import Watcher
from localnet.sim.violation import BrokenRuleError
from localnet.verdicts import Verdict
from mempool.batch import decode_batch_body
from mempool.envelope import decode_envelope
from node.events import BlockNotice, CertifiedNotice, Execute, ReceiptUpdate, SubmitReply
from node.genesis import Genesis
from node.protocol import ReceiptLevel
from node.recovery import CHECKPOINT_TABLE, DELIVERY_TABLE, Archive, Batches
from node.replay import ChainReplay, ReplayError

SILENT_MAX: Final = 8
"""So many envelopes may be executed without one that was told available first: receipts may skip
it, since a block can come before a lane's certificate."""


DENIALS: Final = frozenset(
    (
        "envelope.expired",
        "envelope.pending",
        "nonce.duplicate",
        "nonce.too_low",
        "nonce.too_old",
        "pool.full",
        "pool.sender_full",
    )
)
"""Why a node may refuse a client's genuine envelope."""


def shorten(digest: bytes) -> str:
    """A block, an envelope or a root in a sentence: as the trace has it."""
    return digest.hex()[:8]


class OneOrder(Watcher):
    """One block a height, delivered alike on every node and in every life."""

    effects = (BlockNotice, Persist, CertifiedNotice)

    def __init__(self, exempt: Iterable[int] = ()) -> None:
        """What `exempt` hosts say proves nothing."""
        self._exempt = frozenset(exempt)
        self.blocks: dict[int, tuple[bytes, Block]] = {}
        self.deliveries: dict[bytes, bytes] = {}
        self.headers: dict[bytes, bytes] = {}
        """Own checkpoints, by height: whoever executes a height gets the same."""
        self._compared = {DELIVERY_TABLE: self.deliveries, CHECKPOINT_TABLE: self.headers}
        self.certified: dict[int, int] = {}
        """Highest height that each node announced as certified."""
        self.executed: dict[int, tuple[Execute, bytes, bytes]] = {}
        self.ordered: dict[bytes, int] = {}
        """Envelope to the height of its first place in the order, passed or refused."""
        self.passed: dict[bytes, int] = {}
        self.fills = 0
        self._first: dict[tuple[str, int], int] = {}
        """By kind and height: the node that said it first."""

    def on_effect(self, index: int, effect: Any) -> None:
        if index in self._exempt:
            return
        match effect:
            case BlockNotice(block_id, block):
                height = block.height
                held, _ = self.blocks.setdefault(height, (block_id, block))
                first = self._first.setdefault(("block", height), index)
                assert held == block_id, (
                    f"node {index} disagrees at height {height}: it has block {shorten(block_id)},"
                    f" node {first} block {shorten(held)}"
                )
            case Persist(store=Store.ARCHIVE, puts=puts):
                for put in puts:
                    self._compare(index, put.table, put.key, put.value)
            case CertifiedNotice(certificate, own):
                self._check_certified(index, certificate, own)
            case _:
                pass

    def _compare(self, index: int, table: str, key: bytes, value: bytes) -> None:
        held = self._compared.get(table)
        if held is not None:
            known = held.setdefault(key, value)
            height = int.from_bytes(key, "big")
            first = self._first.setdefault((table, height), index)
            assert known == value, (
                f"node {index}: another {table} at height {height} than node {first}"
            )

    def _check_certified(
        self, index: int, certificate: StateCertificate, own: tuple[CheckpointHeader, ...]
    ) -> None:
        heights = [header.height for header in own]
        assert heights == sorted(heights)
        assert own[-1] == certificate.header, "announced when the own result agrees"
        self.certified[index] = certificate.header.height

    def on_executed(self, index: int, execution: Execution) -> None:
        """An engine finished a height."""
        if index in self._exempt:
            return
        request, ordered, passed, output = execution
        result = (request, output.state_root, output.receipts_root)
        known = self.executed.get(request.height)
        if known is not None:
            first = self._first.setdefault(("result", request.height), index)
            assert known == result, (
                f"node {index}: another result at height {request.height} than node {first}: state"
                f" roots {shorten(output.state_root)} and {shorten(known[1])}"
            )
            return
        self._first.setdefault(("result", request.height), index)
        self.executed[request.height] = result
        self.fills += len(output.fills)
        for envelope_id in ordered:
            self.ordered.setdefault(envelope_id, request.height)
        for envelope_id in passed:
            assert envelope_id not in self.passed, (
                f"envelope {shorten(envelope_id)} is executed at height {request.height} again,"
                f" after height {self.passed[envelope_id]}"
            )
            self.passed[envelope_id] = request.height


class Expiry(Watcher):
    """Nothing is executed at or above the height at which its sender let it expire."""

    def __init__(self, expiries: Mapping[bytes, int], exempt: Iterable[int] = ()) -> None:
        """`expiries` by envelope; it may grow."""
        self._expiries = expiries
        self._exempt = frozenset(exempt)

    def on_executed(self, index: int, execution: Execution) -> None:
        """An engine finished a height."""
        if index in self._exempt:
            return
        request, passed = execution.request, execution.passed
        for envelope_id in passed:
            expiry_height = self._expiries.get(envelope_id, request.height + 1)
            assert request.height < expiry_height, (
                f"node {index} executes at height {request.height} what expired at {expiry_height}"
            )


class Promises(Watcher):
    """Receipt levels only rise within one life of a node, and are never given in vain.

    `available` binds if an honest author's lane carries the envelope. An availability certificate
    needs one honest signature only, so a lane whose author forks it may have two certificates for
    one place, of which one will be ordered."""

    effects = (ReceiptUpdate, SubmitReply)
    messages = (BatchMessage,)

    def __init__(self, exempt: Iterable[int] = ()) -> None:
        """The word of `exempt` hosts is worth nothing."""
        self.taken: dict[int, set[bytes]] = {}
        """By host: what it told clients in this life that it took."""
        self.denied: dict[bytes, str] = {}
        """What a node did not take, and why."""
        self._exempt = frozenset(exempt)
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
        self.taken[index] = set()

    def on_effect(self, index: int, effect: Any) -> None:
        if index in self._exempt:
            return
        if isinstance(effect, SubmitReply):
            for result in effect.results:
                if result.code is None:
                    self.taken[index].add(result.envelope_id)
                elif result.code not in DENIALS:
                    self.denied[result.envelope_id] = result.code
        elif isinstance(effect, ReceiptUpdate):
            self._on_receipt(index, effect)

    def _on_receipt(self, index: int, effect: ReceiptUpdate) -> None:
        levels, envelope_id = self.levels[index], effect.envelope_id
        known = levels.get(envelope_id)
        assert known is None or known.rank < effect.level.rank, (
            f"node {index}: envelope {shorten(envelope_id)} is {effect.level} after {known}"
        )
        assert known is not ReceiptLevel.EXECUTED
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
        if not isinstance(message, BatchMessage) or index in self._exempt:
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
        genuine: Collection[bytes],
        height: int,
        running: Iterable[int],
    ) -> None:
        """At the end: what was available is ordered, unless it expired; whoever runs has told the
        end of everything that it took or told a level of; and somebody told of something."""
        missing = ", ".join(shorten(each) for each in self.outstanding(order, expiries, height))
        assert not missing, f"available, but never ordered: {missing}"
        for envelope_id in self.refused:
            assert envelope_id not in order.passed, f"refused, yet executed: {shorten(envelope_id)}"
        for envelope_id, code in self.denied.items():
            assert envelope_id not in genuine, (
                f"a genuine envelope was not taken: {code} for {shorten(envelope_id)}"
            )
        for index in running:
            self._validate_ends(index, order, expiries)
        carried = len(self._carried.keys() & order.passed.keys())
        assert self.available or carried < SILENT_MAX, (
            f"{carried} envelopes of honest lanes are executed, and none was ever told available"
        )

    def _validate_ends(self, index: int, order: OneOrder, expiries: Mapping[bytes, int]) -> None:
        certified_height = order.certified.get(index, 0)
        levels = self.levels[index]
        for envelope_id in sorted(levels.keys() | self.taken[index]):
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


class Innocence(Watcher):
    """Nobody blames the honest, and no node halts."""

    effects = (Misbehaviour, Halt, Alarm)

    def __init__(self, guilty: Iterable[int] = (), exempt: Iterable[int] | None = None) -> None:
        """Members that may be blamed, and the hosts (theirs, if not named) whose blame is void."""
        self._guilty = frozenset(guilty)
        self._exempt = self._guilty if exempt is None else frozenset(exempt)

    def on_effect(self, index: int, effect: Any) -> None:
        if index in self._exempt:
            return
        match effect:
            case Misbehaviour(member, code, detail):
                assert member in self._guilty, f"{index} blames {member}: {code} {detail}"
            case Halt(code, detail):
                raise AssertionError(f"{index} halts: {code} {detail}")
            case Alarm("lane.stored_batch_invalid", _) if self._guilty:
                # An author's batch is stored while it is being checked. If the node dies in
                # between, its next life finds a bad one, and cannot know whose fault it is.
                pass
            case Alarm(code, detail):
                raise AssertionError(f"{index} raises an alarm: {code} {detail}")
            case _:
                pass


class ReplayDiffersError(BrokenRuleError):
    """The chain on an honest node's disk, repeated, comes to something else."""

    oracle = "replay"
    verdict = Verdict.NONDETERMINISM


def validate_replay(
    order: OneOrder,
    genesis: Genesis,
    archive: Archive,
    batches: Batches,
    scheme: SignatureScheme,
    identity_scheme: IdentityScheme,
) -> tuple[int, int]:
    """Repeat an archived chain from genesis, and hold every checkpoint that any node made against
    it; returns how many heights there were and how many checkpoints were compared. Raises
    `ReplayDiffersError`."""
    run = ChainReplay(genesis, archive, batches, scheme=scheme, identity_scheme=identity_scheme)
    compared = 0
    while _apply_next(run):
        header = run.newest
        if header is None or header.height != run.counts["heights"]:
            continue
        known = order.headers.get(compute_key(header.height))
        if known is not None:
            if known != encode(header):
                raise ReplayDiffersError(f"other roots at height {header.height}")
            compared += 1
    return run.counts["heights"], compared


def _apply_next(run: ChainReplay) -> bool:
    try:
        return run.apply(run.counts["heights"] + 1)
    except ReplayError as error:
        raise ReplayDiffersError(str(error)) from error
