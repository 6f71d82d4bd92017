"""Lanes: batches are spread, stored and certified beside the ordering path (Narwhal, Quorum Store).

The protocol
============

1. Every member has a *lane*: its batches, numbered from 1 without gaps, each naming its parent by
   digest. An author signs a batch header, stores the batch durably, then broadcasts it
   (`lane_author`).
2. A member takes a batch from its author, stores it and has it checked (`lane_intake`): body
   digest, author's signature, every envelope. It takes one batch a sequence; a second one that is
   well signed is proof against the author, see `equivocations`.
3. A member *acknowledges* a sequence of a lane when it holds, stored and checked, one hash chain
   from the lane's committed cursor up to it, and never two different batches at one sequence, not
   even across a restart (`lane_chain` says why the stored batches suffice for that). Which
   sequence, and how often, is the ruler rule of `lane_acks`.
4. The author aggregates acknowledgements of honest power H into an *availability certificate* and
   broadcasts it. At least one honest member then holds whatever of the prefix will be committed
   with it: that member's cursor, when it signed, was no higher than the cursor of the block that
   names the certificate, since both lie on the one committed chain.
5. Blocks name certified tips; a voter needs the certificate, not the batches. On commit the cursor
   moves, and the node *owes* itself the batches from the previous cursor up to the tip, oldest
   first (`delivery`). Which batches these are depends on digests and committed cursors alone, so
   all nodes deliver the same even if an author equivocated.
6. Missing links are fetched from a certificate's signers, or from the author (`lane_fetch`).

What survives
=============

Batches survive the crash of all nodes, because storing precedes acknowledging. After a restart the
host hands in the stored batches and the newest archived certificates (`recover_lanes`). Members
check the batches again and acknowledge afresh; authors repeat what is not certified; so a
certificate forms again even if its archived copy was lost. A host may delete a batch only when the
*durable* cursor has passed it by the retention it promises to peers.

Trust
=====

The transport authenticates senders. Nothing forwarded is believed without a digest or a
certificate that demands it. Who sends a bad signature of its own making is not heard again.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from committee.committee import Committee
from consensus.certificates import CertificateCache
from consensus.effects import (
    Aggregated,
    BatchChecked,
    BatchStored,
    Effect,
    Event,
    LanesAdvanced,
    Misbehaviour,
    Persist,
    Put,
    Received,
    Send,
    ServeBatches,
    SetTimer,
    Signed,
    Store,
    TimerFired,
    Token,
    Verified,
    Verify,
)
from consensus.lane_acks import COMPONENT, AckCollector, AckSigner, Tokens
from consensus.lane_author import LaneAuthor
from consensus.lane_chain import LANE_START, LaneChain, LanePoint, Link
from consensus.lane_fetch import LaneFetcher, ServeMeter, Target
from consensus.lane_intake import BatchIntake, Origin
from consensus.lane_limits import LanesConfig
from consensus.messages import (
    BATCHES_MAX_PER_REQUEST,
    SYNC_RESPONSE_MAX_BYTES,
    Ack,
    BatchMessage,
    BatchRequest,
    LaneCertificate,
    LaneRequest,
)
from consensus.types import (
    BATCH_SIZE_MAX_BYTES,
    AvailabilityCertificate,
    BatchHeader,
    Block,
    SignedBatchHeader,
)
from crypto.bitmap import BitmapError, decode_bitmap
from crypto.codec import encode
from crypto.digest import ZERO_DIGEST
from crypto.scheme import Claim

ACK_TIMER: Final = "lanes.ack"
TICK_TIMER: Final = "lanes.tick"

CERTIFICATE_TABLE: Final = "lane_certificate"
"""Archive table: author (8 bytes big-endian) to its newest encoded certificate."""


class RecoveredLanes(NamedTuple):
    """What a node knew of the lanes before it was restarted."""

    cursors: Mapping[int, LanePoint]
    """By author, at the last block that was *delivered*; later committed blocks are then replayed
    through `on_committed`. A lane that is not named is at its start."""
    links: tuple[Link, ...]
    """Stored batches above the cursors, by author and rising sequence."""
    certificates: tuple[AvailabilityCertificate, ...]
    """Newest archived certificates above the cursors; verified before they were archived."""


NOTHING_RECOVERED: Final = RecoveredLanes({}, (), ())


def recover_lanes(
    epoch: int,
    cursors: Mapping[int, LanePoint],
    batches: Iterable[tuple[bytes, SignedBatchHeader]],
    certificates: Iterable[AvailabilityCertificate] = (),
) -> RecoveredLanes:
    """Build the recovered state from the host's batch index and archive.

    Order does not matter, and what is of another epoch or at or below a cursor is left out.
    """

    def is_current(author: int, of_epoch: int, sequence: int) -> bool:
        return of_epoch == epoch and sequence > cursors.get(author, LANE_START).sequence

    links = [
        Link(batch_id, signed_header, is_stored=True)
        for batch_id, signed_header in batches
        if is_current(
            signed_header.header.author, signed_header.header.epoch, signed_header.header.sequence
        )
    ]
    links.sort(key=lambda link: (link.signed_header.header.author, link.sequence, link.batch_id))
    newest = [
        each
        for each in certificates
        if is_current(each.data.author, each.data.epoch, each.data.sequence)
    ]
    return RecoveredLanes(dict(cursors), tuple(links), tuple(newest))


class _Owed(NamedTuple):
    """The part of one committed block that lies in one lane."""

    author: int
    target: Target


class LaneStatistics(NamedTuple):
    """Sizes of everything that grows with hostile or lost messages."""

    links: int
    checks_pending: int
    fetches: int
    acks_pending: int
    certificates_pending: int
    blocks_owed: int


class Lanes:
    """All lanes of one epoch as one node sees them. Pure: time and results come in as arguments."""

    def __init__(
        self,
        config: LanesConfig,
        chain_id: bytes,
        committee: Committee,
        me: int,
        recovered: RecoveredLanes = NOTHING_RECOVERED,
        certificate_cache: CertificateCache | None = None,
    ) -> None:
        self._config = config
        self._chain_id = chain_id
        self._committee = committee
        self._me = me
        self._peers = tuple(index for index in range(len(committee)) if index != me)
        self._cache = CertificateCache() if certificate_cache is None else certificate_cache
        self._tokens = Tokens(COMPONENT)
        cursors = recovered.cursors
        self._chains = [
            LaneChain(cursors.get(author, LANE_START)) for author in range(len(committee))
        ]
        for link in recovered.links:
            self._chains[link.signed_header.header.author].add(link)
        self._intake = BatchIntake(config, committee, self._chains, self._tokens)
        self._signer = AckSigner(config, chain_id, committee.epoch, me, self._tokens)
        self._collector = AckCollector(chain_id, committee, self._tokens)
        self._fetcher = LaneFetcher(config)
        self._meter = ServeMeter(config)
        self._certified: dict[int, AvailabilityCertificate] = {}
        for certificate in recovered.certificates:
            self._adopt(certificate)
        self._author = LaneAuthor(
            config,
            chain_id,
            committee.epoch,
            me,
            self._tokens,
            self._chains[me],
            max(self._chains[me].find_newest(), self._certified_point(me)),
        )
        self._announced: dict[int, LanePoint] = {}
        self._verifying: dict[Token, tuple[int, AvailabilityCertificate]] = {}
        self._verifying_lanes: set[tuple[int, int]] = set()
        self._queued: dict[tuple[int, int], AvailabilityCertificate] = {}
        self._distrusted: set[int] = set()
        self._unarchived: set[int] = set()
        self._owed: dict[int, tuple[_Owed, ...]] = {}
        self._owed_targets: list[deque[Target]] = [deque() for _ in range(len(committee))]
        self._replied_ms: dict[int, int] = {}
        self._ack_wanted: set[int] = set()
        self._ack_deadline_ms: int | None = None
        self._is_ticking = False

    # ---- what the composition asks ------------------------------------------------------------

    def can_propose(self) -> bool:
        """May `propose_batch` be called? False while the own backlog is full or the previous
        batch is not durable yet, and for good once an own batch failed its check."""
        return self._author.can_propose() and self._me not in self._intake.refused

    def certified_tips(self) -> Mapping[int, AvailabilityCertificate]:
        """The newest verified certificate of each lane above its cursor, by rising author."""
        return {
            author: self._certified[author]
            for author in sorted(self._certified)
            if self._certified[author].data.sequence > self._chains[author].cursor.sequence
        }

    def cursors(self) -> tuple[LanePoint, ...]:
        """Every lane's newest committed tip, by author."""
        return tuple(chain.cursor for chain in self._chains)

    def chain_for(self, author: int, tip: bytes, above_sequence: int) -> tuple[bytes, ...] | None:
        """Ids of a lane's batches from `above_sequence` + 1 up to `tip`, oldest first; None while
        one of them is not stored and checked. What is committed is being fetched already."""
        return self._chains[author].compute_chain(tip, above_sequence)

    def delivery(self, height: int) -> tuple[bytes, ...] | None:
        """All batches of a committed block in execution order: lanes by rising author, each
        oldest first. None while something is missing; it is being fetched."""
        delivered: list[bytes] = []
        for owed in self._owed[height]:
            target = owed.target
            ids = self.chain_for(owed.author, target.tip.batch_id, target.above_sequence)
            if ids is None:
                return None
            delivered += ids
        return tuple(delivered)

    def equivocations(self) -> tuple[tuple[SignedBatchHeader, SignedBatchHeader], ...]:
        """First offence of each author who signed two batches for one place, by author."""
        return tuple(self._intake.offences[author] for author in sorted(self._intake.offences))

    def statistics(self) -> LaneStatistics:
        """Current sizes, for metrics and for tests of the bounds."""
        return LaneStatistics(
            links=sum(len(chain) for chain in self._chains),
            checks_pending=self._intake.count_pending(),
            fetches=len(self._fetcher),
            acks_pending=len(self._collector),
            certificates_pending=len(self._verifying) + len(self._queued),
            blocks_owed=len(self._owed),
        )

    # ---- what the composition tells -----------------------------------------------------------

    def start(self, now_ms: int) -> list[Effect]:
        """Check recovered batches again, and repeat own ones that are not certified."""
        self._author.start(now_ms)
        links = [link for chain in self._chains for link in chain.links_above_cursor()]
        effects = self._intake.recover(links)
        return effects + self._repeat_own(now_ms) + self._keep_ticking(now_ms)

    def propose_batch(self, now_ms: int, body: bytes) -> list[Effect]:
        """Make the next batch of the own lane. Only when `can_propose`."""
        assert self.can_propose(), "the caller asks can_propose first"
        return [self._author.propose(body)]

    def on_committed(self, now_ms: int, block: Block) -> list[Effect]:
        """Advance the cursors past a committed block; heights come without gaps."""
        effects: list[Effect] = []
        owed: list[_Owed] = []
        for certificate in block.lanes:
            author = certificate.data.author
            chain = self._chains[author]
            target = Target(
                LanePoint(certificate.data.sequence, certificate.data.batch_id),
                chain.cursor.sequence,
                self._sources(certificate),
                is_urgent=True,
            )
            owed.append(_Owed(author, target))
            self._owed_targets[author].append(target)
            effects += self._on_certified(now_ms, certificate)
            chain.apply_commit(target.tip)
            self._prune(author)
            effects += self._fetch(now_ms, author) + self._acknowledge(now_ms, author)
        self._owed[block.height] = tuple(owed)
        return effects + self._keep_ticking(now_ms)

    def on_delivered(self, height: int) -> None:
        """The batches of a committed block went to execution: oldest block first."""
        for owed in self._owed.pop(height):
            target = self._owed_targets[owed.author].popleft()
            assert target is owed.target, "blocks are delivered in order"
            self._prune(owed.author)

    def step(self, now_ms: int, event: Event) -> list[Effect]:
        """Handle one event; what is not for the lanes is ignored."""
        match event:
            case Received(sender, message):
                effects = self._on_received(now_ms, sender, message)
            case TimerFired(name):
                effects = self._on_timer(now_ms, name)
            case BatchStored():
                effects = self._on_stored(now_ms, event)
            case BatchChecked():
                effects = self._on_checked(now_ms, event)
            case Signed():
                effects = self._on_signed(now_ms, event)
            case Aggregated():
                effects = self._on_aggregated(now_ms, event)
            case Verified():
                effects = self._on_verified(now_ms, event)
        return effects + self._keep_ticking(now_ms)

    def _on_received(self, now_ms: int, sender: int, message: object) -> list[Effect]:
        match message:
            case BatchMessage():
                return self._on_batch(now_ms, sender, message)
            case Ack():
                return self._on_ack(now_ms, sender, message)
            case LaneCertificate(certificate):
                return self._on_certificate(now_ms, sender, certificate)
            case LaneRequest():
                return self._on_lane_request(now_ms, sender, message)
            case BatchRequest():
                return self._serve(now_ms, sender, list(dict.fromkeys(message.batch_ids)))
            case _:
                return []

    # ---- batches --------------------------------------------------------------------------------

    def _on_batch(self, now_ms: int, sender: int, message: BatchMessage) -> list[Effect]:
        header = message.signed_header.header
        if header.epoch != self._committee.epoch:
            return []
        if header.author >= len(self._committee) or not _is_well_formed(message):
            return [Misbehaviour(sender, "lane.batch_malformed")]
        batch_id = header.batch_id(self._chain_id)
        author = header.author
        chain = self._chains[author]
        if batch_id in chain:
            return self._on_repeated(now_ms, sender, header)
        if not self._fetcher.is_wanted(author, LanePoint(header.sequence, batch_id)):
            if sender != author:
                return []
            return self._on_author_batch(batch_id, message)
        origin = Origin.AUTHOR if sender == author else Origin.FETCHED
        effects = self._intake.take(origin, sender, batch_id, message)
        if self._fetcher.on_accepted(now_ms, author, chain, header):
            effects += self._fetch(now_ms, author)
        return effects

    def _on_author_batch(self, batch_id: bytes, message: BatchMessage) -> list[Effect]:
        """A batch that nobody asked for, from its author."""
        header = message.signed_header.header
        author = header.author
        chain = self._chains[author]
        if author in self._intake.refused or not self._has_room(chain, header.sequence):
            return []
        if chain.links_at(header.sequence):
            return self._intake.take_rival(batch_id, message)
        point = LanePoint(header.sequence, batch_id)
        if point > self._announced.get(author, LANE_START):
            self._announced[author] = point
        if self._intake.is_full(author):
            return []
        return self._intake.take(Origin.AUTHOR, author, batch_id, message)

    def _has_room(self, chain: LaneChain, sequence: int) -> bool:
        """Is this sequence one that the node is ready to store before it is committed?"""
        offset = sequence - chain.cursor.sequence
        return (
            0 < offset <= self._config.uncommitted_batches_max
            and chain.uncommitted_size_bytes < self._config.uncommitted_size_max_bytes
        )

    def _on_repeated(self, now_ms: int, sender: int, header: BatchHeader) -> list[Effect]:
        """An author repeats a batch: it misses the certificate or the acknowledgement."""
        if sender != header.author:
            return []
        certificate = self._certified.get(sender)
        newest = self._signer.newest(sender)
        if certificate is not None and certificate.data.sequence >= header.sequence:
            return self._reply(now_ms, sender, LaneCertificate(certificate))
        return [] if newest is None else self._reply(now_ms, sender, newest)

    def _reply(self, now_ms: int, peer: int, message: Ack | LaneCertificate) -> list[Effect]:
        replied_ms = self._replied_ms.get(peer)
        if replied_ms is not None and now_ms - replied_ms < self._config.reply_interval_ms:
            return []
        self._replied_ms[peer] = now_ms
        return [Send((peer,), message)]

    def _on_stored(self, now_ms: int, event: BatchStored) -> list[Effect]:
        link = self._intake.on_stored(event)
        if link is None:
            return []
        author = link.signed_header.header.author
        effects: list[Effect] = []
        if author == self._me:
            message = self._author.on_stored(now_ms, LanePoint(link.sequence, link.batch_id))
            if message is not None and self._peers:
                effects.append(Send(self._peers, message))
        return effects + self._acknowledge(now_ms, author)

    def _on_checked(self, now_ms: int, event: BatchChecked) -> list[Effect]:
        check, effects = self._intake.on_checked(event)
        if check is None:
            return effects
        if check.author in self._intake.refused:
            self._announced.pop(check.author, None)
        return effects + self._acknowledge(now_ms, check.author)

    # ---- acknowledgements and certificates ----------------------------------------------------

    def _certified_point(self, author: int) -> LanePoint:
        certificate = self._certified.get(author)
        if certificate is None:
            return LANE_START
        return LanePoint(certificate.data.sequence, certificate.data.batch_id)

    def _covered_sequence(self, author: int) -> int:
        """Up to where an acknowledgement would tell nothing new."""
        return max(self._certified_point(author).sequence, self._chains[author].cursor.sequence)

    def _acknowledge(self, now_ms: int, author: int) -> list[Effect]:
        chain = self._chains[author]
        chain.apply_ready()
        covered = self._covered_sequence(author)
        due_ms = self._signer.find_due_ms(author, chain, covered)
        if due_ms is None:
            self._ack_wanted.discard(author)
            return []
        if due_ms <= now_ms:
            self._ack_wanted.discard(author)
            return [self._signer.sign(now_ms, author, chain, covered)]
        self._ack_wanted.add(author)
        if self._ack_deadline_ms is not None and self._ack_deadline_ms <= due_ms:
            return []
        self._ack_deadline_ms = due_ms
        return [SetTimer(ACK_TIMER, due_ms)]

    def _on_signed(self, now_ms: int, event: Signed) -> list[Effect]:
        message = self._author.on_signed(event.token, event.signature)
        if message is not None:
            batch_id = message.signed_header.header.batch_id(self._chain_id)
            return self._intake.take(Origin.OWN, self._me, batch_id, message)
        ack = self._signer.on_signed(now_ms, event.token, event.signature)
        if ack is None:
            return []
        author = ack.data.author
        self._signer.on_covered(author, self._covered_sequence(author))
        effects = self._collect(ack) if author == self._me else [Send((author,), ack)]
        return effects + self._acknowledge(now_ms, author)

    def _on_ack(self, now_ms: int, sender: int, ack: Ack) -> list[Effect]:
        data = ack.data
        if ack.signer != sender or data.author != self._me:
            return [Misbehaviour(sender, "lane.ack_forged")]
        if data.epoch != self._committee.epoch or sender in self._collector.banned:
            return []
        if data.sequence <= self._covered_sequence(self._me):
            certificate = self.certified_tips().get(self._me)
            if certificate is None:
                return []
            return self._reply(now_ms, sender, LaneCertificate(certificate))
        link = self._chains[self._me].find(data.batch_id)
        if link is None or link.sequence != data.sequence:
            return [Misbehaviour(sender, "lane.ack_mismatch")]
        return self._collect(ack)

    def _collect(self, ack: Ack) -> list[Effect]:
        if ack.data.sequence > self._covered_sequence(self._me):
            self._collector.offer(ack)
        return self._collector.aggregate()

    def _on_aggregated(self, now_ms: int, event: Aggregated) -> list[Effect]:
        certificate = self._collector.on_aggregated(event)
        effects: list[Effect] = [
            Misbehaviour(culprit, "lane.ack_invalid") for culprit in event.culprits
        ]
        if certificate is not None:
            effects += self._on_certified(now_ms, certificate)
            if self._peers and self._certified.get(self._me) is certificate:
                effects.append(Send(self._peers, LaneCertificate(certificate)))
        return effects + self._collector.aggregate()

    def _on_certificate(
        self, now_ms: int, sender: int, certificate: AvailabilityCertificate
    ) -> list[Effect]:
        data = certificate.data
        if data.epoch != self._committee.epoch or sender in self._distrusted:
            return []
        if data.author >= len(self._committee):
            return [Misbehaviour(sender, "lane.certificate_malformed")]
        if sender != data.author and data.author != self._me:
            return []
        if data.sequence <= self._covered_sequence(data.author):
            return []
        if certificate in self._cache:
            return self._on_certified(now_ms, certificate)
        claim = self._compute_claim(certificate)
        if claim is None:
            return [Misbehaviour(sender, "lane.certificate_malformed")]
        lane = (sender, data.author)
        if lane in self._verifying_lanes:
            self._queued[lane] = certificate
            return []
        token = self._tokens.issue()
        self._verifying_lanes.add(lane)
        self._verifying[token] = (sender, certificate)
        return [Verify(token, (claim,))]

    def _compute_claim(self, certificate: AvailabilityCertificate) -> Claim | None:
        """What a certificate claims; None if it is no certificate at all."""
        try:
            signers = decode_bitmap(certificate.signers, len(self._committee))
        except BitmapError:
            return None
        if self._committee.power_of(signers) < self._committee.honest_power:
            return None
        keys = tuple(self._committee.members[signer].consensus_key for signer in signers)
        return Claim(keys, certificate.data.signing_bytes(self._chain_id), certificate.signature)

    def _on_verified(self, now_ms: int, event: Verified) -> list[Effect]:
        pending = self._verifying.pop(event.token, None)
        if pending is None:
            return []
        sender, certificate = pending
        lane = (sender, certificate.data.author)
        self._verifying_lanes.discard(lane)
        queued = self._queued.pop(lane, None)
        if not all(event.results):
            self._distrusted.add(sender)
            return [Misbehaviour(sender, "lane.certificate_invalid")]
        effects = self._on_certified(now_ms, certificate)
        if queued is not None:
            effects += self._on_certificate(now_ms, sender, queued)
        return effects

    def _adopt(self, certificate: AvailabilityCertificate) -> None:
        self._cache.add(certificate)
        self._certified[certificate.data.author] = certificate

    def _on_certified(self, now_ms: int, certificate: AvailabilityCertificate) -> list[Effect]:
        """A verified certificate, from whichever source: keep it if it is the lane's newest."""
        author, sequence = certificate.data.author, certificate.data.sequence
        if sequence <= self._covered_sequence(author):
            return []
        self._adopt(certificate)
        self._unarchived.add(author)
        self._signer.on_covered(author, sequence)
        if author == self._me:
            self._collector.on_covered(sequence)
            self._author.on_covered(now_ms, self._certified_point(author))
        return [LanesAdvanced(author, sequence)]

    # ---- fetching and serving -----------------------------------------------------------------

    def _sources(self, certificate: AvailabilityCertificate) -> tuple[int, ...]:
        """Who to ask for what a certificate names: its signers, from a place of one's own on."""
        signers = decode_bitmap(certificate.signers, len(self._committee))
        others = [signer for signer in signers if signer != self._me] or list(self._peers)
        turn = self._me % max(1, len(others))
        return tuple(others[turn:] + others[:turn])

    def _targets(self, author: int) -> list[Target]:
        chain = self._chains[author]
        targets = [target for target in self._owed_targets[author] if target.sources]
        certificate = self._certified.get(author)
        if certificate is not None and self._has_room(chain, certificate.data.sequence):
            sources = self._sources(certificate)
            if sources:
                point = self._certified_point(author)
                targets.append(Target(point, chain.cursor.sequence, sources, is_urgent=False))
        announced = self._announced.get(author, LANE_START)
        if self._has_room(chain, announced.sequence):
            targets.append(Target(announced, chain.cursor.sequence, (author,), is_urgent=False))
        return targets

    def _fetch(self, now_ms: int, author: int) -> list[Effect]:
        return self._fetcher.poll(now_ms, author, self._chains[author], self._targets(author))

    def _on_lane_request(self, now_ms: int, sender: int, request: LaneRequest) -> list[Effect]:
        """Serve a stretch of a lane, newest first, as far as its headers are in memory; beyond
        that the tip alone, which tells the requester its parent."""
        chain = next((chain for chain in self._chains if request.tip in chain), None)
        if chain is None:
            return self._serve(now_ms, sender, [request.tip])
        ids: list[bytes] = []
        size_bytes = 0
        link = chain.find(request.tip)
        while link is not None and link.is_stored and link.sequence > request.above_sequence:
            if len(ids) >= BATCHES_MAX_PER_REQUEST or size_bytes >= SYNC_RESPONSE_MAX_BYTES:
                break
            ids.append(link.batch_id)
            size_bytes += link.signed_header.header.size_bytes
            link = chain.find(link.signed_header.header.parent)
        return self._serve(now_ms, sender, ids)

    def _serve(self, now_ms: int, peer: int, batch_ids: list[bytes]) -> list[Effect]:
        """Send stored batches as far as the peer's allowance goes."""
        allowed = [
            batch_id
            for batch_id in batch_ids
            if self._meter.charge(now_ms, peer, self._size_bytes(batch_id))
        ]
        return [ServeBatches(peer, tuple(allowed))] if allowed else []

    def _size_bytes(self, batch_id: bytes) -> int:
        for chain in self._chains:
            link = chain.find(batch_id)
            if link is not None:
                return link.signed_header.header.size_bytes
        return BATCH_SIZE_MAX_BYTES

    # ---- time -----------------------------------------------------------------------------------

    def _prune(self, author: int) -> None:
        chain = self._chains[author]
        owed = self._owed_targets[author]
        oldest_needed = owed[0].above_sequence if owed else chain.cursor.sequence
        chain.prune(oldest_needed - self._config.links_retained_per_lane + 1)

    def _on_timer(self, now_ms: int, name: str) -> list[Effect]:
        if name == ACK_TIMER:
            self._ack_deadline_ms = None
            effects: list[Effect] = []
            for author in sorted(self._ack_wanted):
                effects += self._acknowledge(now_ms, author)
            return effects
        if name != TICK_TIMER:
            return []
        self._is_ticking = False
        effects = self._repeat_own(now_ms) + self._signer.resend(now_ms)
        for author in range(len(self._committee)):
            effects += self._fetch(now_ms, author)
        return effects + self._archive()

    def _repeat_own(self, now_ms: int) -> list[Effect]:
        certificate = self.certified_tips().get(self._me)
        return self._author.repeat(now_ms, self._peers, self._collector, certificate)

    def _archive(self) -> list[Effect]:
        """Write new certificates behind: many batches share one write, and nothing waits."""
        if not self._unarchived:
            return []
        puts = tuple(
            Put(CERTIFICATE_TABLE, author.to_bytes(8, "big"), encode(self._certified[author]))
            for author in sorted(self._unarchived)
        )
        self._unarchived.clear()
        return [Persist(self._tokens.issue(), Store.ARCHIVE, puts)]

    def _keep_ticking(self, now_ms: int) -> list[Effect]:
        """Tick while anything is uncommitted, undelivered or unwritten; then be quiet."""
        if self._is_ticking or not self._has_business():
            return []
        self._is_ticking = True
        return [SetTimer(TICK_TIMER, now_ms + self._config.tick_ms)]

    def _has_business(self) -> bool:
        if self._unarchived or len(self._fetcher):
            return True
        return any(
            self._owed_targets[author]
            or chain.find_newest().sequence > chain.cursor.sequence
            or max(self._certified_point(author), self._announced.get(author, LANE_START))
            > chain.cursor
            for author, chain in enumerate(self._chains)
        )


def _is_well_formed(message: BatchMessage) -> bool:
    header = message.signed_header.header
    if header.size_bytes != len(message.body) or header.sequence == 0:
        return False
    return (header.sequence == 1) == (header.parent == ZERO_DIGEST)
