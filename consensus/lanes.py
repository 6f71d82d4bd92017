"""Lanes: batches are spread, stored and certified beside the ordering path (Narwhal, Quorum Store).

The protocol
============

1. Every member has a *lane*: its batches, numbered from 1 without gaps, each naming its parent by
   digest. An author signs a batch header, stores the batch durably, then broadcasts it
   (`lane_author`).
2. A member takes a batch from its author (`lane_door`), stores it and has it checked
   (`lane_intake`): body digest, author's signature, every envelope. It takes one batch a sequence;
   a second one that is well signed is evidence against the author, found once.
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
   first (`lane_delivery`). Which batches these are depends on digests and committed cursors alone,
   so all nodes deliver the same even if an author equivocated.
6. Missing links are fetched from a certificate's signers, or from the author (`lane_fetch`,
   `lane_targets`).

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

from collections.abc import Mapping
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
    Received,
    Send,
    SetTimer,
    Signed,
    TimerFired,
    Verified,
)
from consensus.lane_acks import ACK_TIMER, AckCollector, AckSigner
from consensus.lane_author import LaneAuthor
from consensus.lane_certificates import LaneCertificates
from consensus.lane_chain import LANE_START, LaneChain, LanePoint
from consensus.lane_delivery import Deliveries, OwedLane
from consensus.lane_door import BatchDoor, Replies
from consensus.lane_fetch import LaneFetcher, Target
from consensus.lane_intake import BatchIntake, Origin
from consensus.lane_limits import LanesConfig
from consensus.lane_recovery import NOTHING_RECOVERED, RecoveredLanes
from consensus.lane_serve import LaneServer
from consensus.lane_targets import LaneTargets
from consensus.messages import (
    Ack,
    BatchMessage,
    BatchRequest,
    LaneCertificate,
    LaneRequest,
)
from consensus.ownership import Component, Tokens, make_timer_name
from consensus.types import (
    AvailabilityCertificate,
    Block,
)

TICK_TIMER: Final = make_timer_name(Component.LANES, "tick")


class LaneStatistics(NamedTuple):
    """Sizes of everything that grows with hostile or lost messages."""

    links: int
    checks_pending: int
    fetches: int
    failed_copies: int
    """Batches of which a fetched copy failed its check, until they are ready."""
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
        *,
        is_signing: bool = True,
    ) -> None:
        """A node that is not signing holds, checks, fetches and serves batches; it has none of its
        own, and acknowledges none."""
        self._config = config
        self._chain_id = chain_id
        self._committee = committee
        self._me = me
        self._is_signing = is_signing
        self._peers = tuple(index for index in range(len(committee)) if index != me)
        self._tokens = Tokens(Component.LANES)
        cursors = recovered.cursors
        self._chains = [
            LaneChain(cursors.get(author, LANE_START)) for author in range(len(committee))
        ]
        for link in recovered.links:
            self._chains[link.signed_header.header.author].add(link)
        self._intake = BatchIntake(config, committee, me, self._chains, self._tokens)
        self._signer = AckSigner(config, chain_id, committee.epoch, me, self._tokens)
        self._collector = AckCollector(chain_id, committee, self._tokens)
        self._fetcher = LaneFetcher(config)
        self._server = LaneServer(config, self._chains, self._intake.unsound)
        self._deliveries = Deliveries(self._chains)
        cache = CertificateCache() if certificate_cache is None else certificate_cache
        self._certificates = LaneCertificates(chain_id, committee, me, self._tokens, cache)
        for certificate in recovered.certificates:
            self._certificates.adopt(certificate)
        self._author = LaneAuthor(
            config,
            chain_id,
            committee.epoch,
            me,
            self._tokens,
            self._chains[me],
            max(self._chains[me].find_newest(), self._certificates.point(me)),
        )
        self._replies = Replies(config.reply_interval_ms)
        self._targets = LaneTargets(
            config, committee, me, self._chains, self._certificates, self._deliveries
        )
        self._door = BatchDoor(
            chain_id,
            committee,
            self._chains,
            self._intake,
            self._targets,
            self._fetcher,
            self._certificates,
            self._signer,
            self._replies,
        )
        self._is_ticking = False

    # ---- what the composition asks ------------------------------------------------------------

    def can_propose(self) -> bool:
        """May `propose_batch` be called? False while the own backlog is full or the previous
        batch is not durable yet, and for good once an own batch failed its check, or where nothing
        is signed."""
        is_able = self._is_signing and self._author.can_propose()
        return is_able and self._me not in self._intake.bans

    def certified_tips(self) -> Mapping[int, AvailabilityCertificate]:
        """The newest verified certificate of each lane above its cursor, by rising author."""
        chains = self._chains
        return {
            author: certificate
            for author, certificate in self._certificates.newest_of_all()
            if certificate.data.sequence > chains[author].cursor.sequence
        }

    def certified_tip(self, author: int) -> AvailabilityCertificate | None:
        """The newest verified certificate of a lane, if it is above the lane's cursor."""
        certificate = self._certificates.newest(author)
        cursor = self._chains[author].cursor
        is_above = certificate is not None and certificate.data.sequence > cursor.sequence
        return certificate if is_above else None

    def cursor(self, author: int) -> LanePoint:
        """A lane's newest committed tip."""
        return self._chains[author].cursor

    def chain_for(self, author: int, tip: bytes, above_sequence: int) -> tuple[bytes, ...] | None:
        """Ids of a lane's batches from `above_sequence` + 1 up to `tip`, oldest first; None while
        one of them is not stored and checked. What is committed is being fetched already."""
        return self._chains[author].compute_chain(tip, above_sequence)

    def delivery(self, height: int) -> tuple[bytes, ...] | None:
        """All batches of a committed block in execution order: lanes by rising author, each
        oldest first. None while something is missing; it is being fetched."""
        return self._deliveries.compute(height)

    def statistics(self) -> LaneStatistics:
        """Current sizes, to hold against the bounds."""
        return LaneStatistics(
            links=sum(len(chain) for chain in self._chains),
            checks_pending=self._intake.count_pending(),
            fetches=len(self._fetcher),
            failed_copies=self._fetcher.count_failed(),
            acks_pending=len(self._collector),
            certificates_pending=self._certificates.count_pending(),
            blocks_owed=len(self._deliveries),
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
        owed: list[OwedLane] = []
        for certificate in block.lanes:
            author = certificate.data.author
            chain = self._chains[author]
            target = Target(
                LanePoint(certificate.data.sequence, certificate.data.batch_id),
                chain.cursor.sequence,
                self._targets.find_sources(certificate),
                is_urgent=True,
            )
            owed.append(OwedLane(author, target))
            effects += self._on_certified(now_ms, certificate)
            chain.apply_commit(target.tip)
            self._signer.on_committed(author, chain)
        self._deliveries.add(block.height, owed)
        for author, _ in owed:
            self._prune(author)
            effects += self._fetch(now_ms, author) + self._acknowledge(now_ms, author)
        return effects + self._keep_ticking(now_ms)

    def on_delivered(self, height: int) -> None:
        """The batches of a committed block went to execution: oldest block first."""
        for author in self._deliveries.apply_delivered(height):
            self._prune(author)

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
        return effects if self._is_ticking else effects + self._keep_ticking(now_ms)

    def _on_received(self, now_ms: int, sender: int, message: object) -> list[Effect]:
        match message:
            case BatchMessage():
                return self._on_batch(now_ms, sender, message)
            case Ack():
                return self._on_ack(now_ms, sender, message)
            case LaneCertificate(certificate):
                return self._on_certificate(now_ms, sender, certificate)
            case LaneRequest():
                return self._server.serve_lane(now_ms, sender, message)
            case BatchRequest():
                return self._server.serve_batches(now_ms, sender, message)
            case _:
                return []

    # ---- batches --------------------------------------------------------------------------------

    def _on_batch(self, now_ms: int, sender: int, message: BatchMessage) -> list[Effect]:
        effects, is_answer_complete = self._door.receive(now_ms, sender, message)
        if is_answer_complete:
            effects += self._fetch(now_ms, message.signed_header.header.author)
        return effects

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
        if check.author in self._intake.bans:
            self._targets.withdraw(check.author)
        if event.error is not None and check.origin is Origin.FETCHED:
            self._fetcher.on_failed(check.author, check.batch_id, check.sender)
        return effects + self._acknowledge(now_ms, check.author)

    # ---- acknowledgements and certificates ----------------------------------------------------

    def _covered_sequence(self, author: int) -> int:
        """Up to where an acknowledgement would tell nothing new."""
        return max(self._certificates.point(author).sequence, self._chains[author].cursor.sequence)

    def _acknowledge(self, now_ms: int, author: int) -> list[Effect]:
        chain = self._chains[author]
        chain.apply_ready()
        if not self._is_signing:
            return []
        return self._signer.poll(now_ms, author, chain, self._covered_sequence(author))

    def _on_signed(self, now_ms: int, event: Signed) -> list[Effect]:
        message = self._author.on_signed(event.token, event.signature)
        if message is not None:
            batch_id = message.signed_header.header.batch_id(self._chain_id)
            return self._intake.take(Origin.OWN, self._me, batch_id, message)
        ack = self._signer.on_signed(now_ms, event.token, event.signature)
        if ack is None:
            return []
        author = ack.data.author
        self._signer.on_committed(author, self._chains[author])
        effects: list[Effect] = []
        if self._signer.newest(author) is ack:
            effects = self._collect(ack) if author == self._me else [Send((author,), ack)]
        self._signer.on_covered(author, self._covered_sequence(author))
        return effects + self._acknowledge(now_ms, author)

    def _on_ack(self, now_ms: int, sender: int, ack: Ack) -> list[Effect]:
        data = ack.data
        if not self._is_signing:
            # For a batch of an earlier life, which is forgotten here.
            return []
        if ack.signer != sender or data.author != self._me:
            return [Misbehaviour(sender, "lane.ack_forged")]
        if data.epoch != self._committee.epoch or sender in self._collector.bans:
            return []
        if data.sequence <= self._covered_sequence(self._me):
            certificate = self.certified_tip(self._me)
            if certificate is None:
                return []
            return self._replies.make(now_ms, sender, LaneCertificate(certificate))
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
            if self._peers and self._certificates.newest(self._me) is certificate:
                effects.append(Send(self._peers, LaneCertificate(certificate)))
        return effects + self._collector.aggregate()

    def _on_certificate(
        self, now_ms: int, sender: int, certificate: AvailabilityCertificate
    ) -> list[Effect]:
        author = certificate.data.author
        if author >= len(self._committee):
            return [Misbehaviour(sender, "lane.certificate_malformed")]
        if certificate.data.sequence <= self._covered_sequence(author):
            return []
        good, effects = self._certificates.receive(sender, certificate)
        return effects if good is None else self._on_certified(now_ms, good)

    def _on_verified(self, now_ms: int, event: Verified) -> list[Effect]:
        outcome = self._certificates.on_verified(event)
        if outcome is None:
            return []
        sender, certificate, queued = outcome
        if certificate is None:
            return [Misbehaviour(sender, "lane.certificate_invalid")]
        effects = self._on_certified(now_ms, certificate)
        if queued is not None:
            effects += self._on_certificate(now_ms, sender, queued)
        return effects

    def _on_certified(self, now_ms: int, certificate: AvailabilityCertificate) -> list[Effect]:
        """A verified certificate, from whichever source: keep it if it is the lane's newest."""
        author, sequence = certificate.data.author, certificate.data.sequence
        if sequence <= self._covered_sequence(author):
            return []
        self._certificates.adopt(certificate)
        self._signer.on_covered(author, sequence)
        if author == self._me:
            self._collector.on_covered(sequence)
            self._author.on_covered(now_ms, self._certificates.point(author))
        return [LanesAdvanced(author, sequence)]

    # ---- fetching -----------------------------------------------------------------------------

    def _fetch(self, now_ms: int, author: int) -> list[Effect]:
        return self._fetcher.poll(
            now_ms, author, self._chains[author], self._targets.compute(author)
        )

    # ---- time -----------------------------------------------------------------------------------

    def _prune(self, author: int) -> None:
        oldest_needed = self._deliveries.find_oldest_needed(author)
        retained = self._config.links_retained_max // len(self._committee)
        self._chains[author].prune(oldest_needed - retained + 1)

    def _on_timer(self, now_ms: int, name: str) -> list[Effect]:
        if name == ACK_TIMER:
            effects: list[Effect] = []
            for author in self._signer.on_timer():
                effects += self._acknowledge(now_ms, author)
            return effects
        if name != TICK_TIMER:
            return []
        self._is_ticking = False
        effects = self._repeat_own(now_ms) + self._signer.resend(now_ms)
        for author in range(len(self._committee)):
            effects += self._fetch(now_ms, author)
        return effects + self._certificates.archive()

    def _repeat_own(self, now_ms: int) -> list[Effect]:
        certificate = self.certified_tip(self._me)
        return self._author.repeat(now_ms, self._peers, self._collector, certificate)

    def _keep_ticking(self, now_ms: int) -> list[Effect]:
        """Tick while anything is uncommitted, undelivered or unwritten; then be quiet."""
        if self._is_ticking or not self._has_business():
            return []
        self._is_ticking = True
        return [SetTimer(TICK_TIMER, now_ms + self._config.tick_ms)]

    def _has_business(self) -> bool:
        if self._certificates.has_unarchived() or len(self._fetcher):
            return True
        return any(self._targets.is_open(author) for author in range(len(self._chains)))
