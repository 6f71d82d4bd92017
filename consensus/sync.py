"""Fetching blocks: a certified block that is missing, and the whole chain after an absence.

What is fetched is always named by a verified certificate, so a peer can withhold but not deceive:
blocks are accepted when they hash to the ids that a certificate and their children name, one below
the other. That also vouches for the certificates inside them: a quorum voted for the named block,
so honest members verified the certificate of its parent before they voted, and so on down.

A responder's claims about heights or epochs decide nothing. The height that chooses between the
two ways below is the one its quorum signed:

- near (S1): `BlockRequest` by id, newest first, to the signers of the certificate in turn;
- far (S2): `CommittedRequest` by rising height; the receiver replays the commit rule itself.

At most `REQUESTS_IN_FLIGHT_MAX` requests are under way, each to another member. Whom to ask comes
round, by node and by request, and within one *round* for a block no signer is asked again who did
not help. Any answer ends its request, so one that is of no use costs a round trip: the next signer
is asked at once. Whose answer the certificate refutes is not asked for that block again. A round
without progress takes at least the retry time, which grows: members that answer with nothing,
however fast, cannot keep this node busy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from consensus.backoff import compute_growing_wait_ms
from consensus.bans import Bans
from consensus.block_tree import COMMITTED_BLOCKS_KEPT, BlockTree
from consensus.messages import BlockRequest, BlockResponse, CommittedRequest, CommittedResponse
from consensus.types import QC, Block
from consensus.validation import ValidationError, validate_links
from crypto.bitmap import decode_bitmap

REQUESTS_IN_FLIGHT_MAX: Final = 2
TARGETS_MAX: Final = 4
"""Certified blocks wanted at a time; beyond it the one of the lowest view is dropped."""
ATTEMPTS_MAX: Final = 24
"""Waits for one target without progress before it is dropped. Whatever still needs it then asks
anew, so nothing is given up for ever."""
FAR_HEIGHTS: Final = COMMITTED_BLOCKS_KEPT // 2
"""A target this far above the root is reached by rising height: its ancestors may have left the
window in which peers keep committed blocks at hand."""

BlockWithId = tuple[bytes, Block]


@dataclass
class _Target:
    """A certified block that is missing, or whose ancestors are."""

    qc: QC
    peers: tuple[int, ...]
    """Members to ask in turn: the certificate's signers, who hold the block durably."""
    attempts: int = 0
    """Unanswered requests, and rounds that ended early, since there was progress."""
    asked: set[int] = field(default_factory=set)
    """Who was asked in this round and did not help."""
    liars: set[int] = field(default_factory=set)
    """Whose answer the certificate refuted."""
    round_began_ms: int = 0
    rests_until_ms: int = 0


@dataclass(frozen=True)
class _Request:
    """A request under way to one member."""

    target_id: bytes | None
    """None for an observer's poll, which wants whatever comes next."""
    block_id: bytes | None
    """What a `BlockRequest` asked for; None for a `CommittedRequest`."""
    deadline_ms: int


class Outgoing(NamedTuple):
    """A request and the member it goes to."""

    peer: int
    message: BlockRequest | CommittedRequest


class BlockSync:
    """Which blocks are wanted and who was asked."""

    def __init__(
        self,
        chain_id: bytes,
        member_count: int,
        me: int | None,
        tree: BlockTree,
        retry_ms: int,
        bans: Bans,
    ) -> None:
        """Members in `bans` are not heard, so they are not asked."""
        self._chain_id = chain_id
        self._member_count = member_count
        self._me = me
        self._tree = tree
        self._retry_ms = retry_ms
        self._targets: dict[bytes, _Target] = {}
        self._in_flight: dict[int, _Request] = {}
        self._frontier_id = tree.root.block_id
        """The last block that came by rising height: the next request goes on above it."""
        self._bans = bans
        self._poll_count = 0
        self._turn = me or 0
        # Rises with each request. Each member starts elsewhere, so that not all ask the same one.

    @property
    def target_count(self) -> int:
        """Blocks wanted."""
        return len(self._targets)

    @property
    def is_busy(self) -> bool:
        """Is anything wanted or asked for?"""
        return bool(self._targets or self._in_flight)

    @property
    def in_flight_count(self) -> int:
        """Requests under way."""
        return len(self._in_flight)

    # ---- asking ------------------------------------------------------------------------------

    def want(self, qc: QC) -> None:
        """Ask for the block of a verified certificate unless it is connected or out of date."""
        block_id = qc.block_id
        is_useful = self._tree.get(block_id) is None and qc.height > self._tree.root.height
        if not is_useful or block_id in self._targets:
            return
        signers = decode_bitmap(qc.signers, self._member_count)
        peers = tuple(index for index in signers if index != self._me)
        self._targets[block_id] = _Target(qc, peers)
        if len(self._targets) > TARGETS_MAX:
            self._drop(min(self._targets, key=lambda key: self._targets[key].qc.view))

    def expire(self, now_ms: int) -> None:
        """Forget requests past their deadline and targets that nobody serves."""
        for peer, request in list(self._in_flight.items()):
            if request.deadline_ms <= now_ms:
                target = self._end_request(peer)
                if target is not None:
                    target.attempts += 1
        for block_id, target in list(self._targets.items()):
            if target.attempts >= ATTEMPTS_MAX:
                self._drop(block_id)

    def compute_deadline_ms(self, now_ms: int) -> int | None:
        """When the next request under way is given up, or the next round begins."""
        if not self._targets and not self._in_flight:
            return None
        times = [request.deadline_ms for request in self._in_flight.values()]
        times += [target.rests_until_ms for target in self._targets.values()]
        return min((each for each in times if each > now_ms), default=None)

    def next_requests(self, now_ms: int) -> list[Outgoing]:
        """What to ask for now, newest certificate first."""
        for peer in [peer for peer in self._in_flight if peer in self._bans]:
            self._end_request(peer)
        if not self._targets:
            return []
        requests: list[Outgoing] = []
        newest_first = sorted(self._targets.items(), key=lambda item: -item[1].qc.view)
        for block_id, target in newest_first:
            missing_id = self._tree.find_missing_ancestor(block_id)
            if missing_id is None or target.qc.height <= self._tree.root.height:
                self._drop(block_id)
            elif not self._is_asked(block_id):
                requests += self._ask(now_ms, block_id, target, missing_id)
        return requests

    def poll(self, now_ms: int) -> list[Outgoing]:
        """An observer's request for what comes next, to one member after another: nobody sends
        it proposals."""
        if self._in_flight:
            return []
        peers = [peer for peer in range(self._member_count) if peer != self._me]
        peer = peers[self._poll_count % len(peers)]
        self._poll_count += 1
        self._in_flight[peer] = _Request(None, None, now_ms + self._retry_ms)
        return [Outgoing(peer, CommittedRequest(self._compute_from_height()))]

    def _is_asked(self, target_id: bytes) -> bool:
        return any(request.target_id == target_id for request in self._in_flight.values())

    def _ask(
        self, now_ms: int, target_id: bytes, target: _Target, missing_id: bytes
    ) -> list[Outgoing]:
        if len(self._in_flight) >= REQUESTS_IN_FLIGHT_MAX:
            return []
        peer = self._choose_peer(now_ms, target)
        if peer is None:
            return []
        target.asked.add(peer)
        self._turn += 1
        # Every third attempt goes the other way: the peers may have moved on since.
        is_far = target.qc.height - self._tree.root.height > FAR_HEIGHTS
        by_height = is_far != (target.attempts % 3 == 2)
        deadline_ms = now_ms + compute_growing_wait_ms(self._retry_ms, target.attempts)
        block_id = None if by_height else missing_id
        self._in_flight[peer] = _Request(target_id, block_id, deadline_ms)
        if by_height:
            return [Outgoing(peer, CommittedRequest(self._compute_from_height()))]
        return [Outgoing(peer, BlockRequest(missing_id, self._tree.root.height))]

    def _choose_peer(self, now_ms: int, target: _Target) -> int | None:
        """Whom to ask next; None while nobody is free or the round has to last a little longer."""
        willing = [
            peer for peer in target.peers if peer not in target.liars and peer not in self._bans
        ]
        if target.asked.issuperset(willing):
            target.asked.clear()
            wait_ms = compute_growing_wait_ms(self._retry_ms, target.attempts)
            target.rests_until_ms = target.round_began_ms + wait_ms
            if target.rests_until_ms > now_ms:
                target.attempts += 1
        if target.rests_until_ms > now_ms:
            return None
        if not target.asked:
            target.round_began_ms = now_ms
        left = [each for each in willing if each not in target.asked]
        free = [each for each in left if each not in self._in_flight]
        return free[self._turn % len(free)] if free else None

    def _compute_from_height(self) -> int:
        frontier = self._tree.get(self._frontier_id)
        return (self._tree.root if frontier is None else frontier).height + 1

    def _drop(self, block_id: bytes) -> None:
        self._targets.pop(block_id, None)
        self._in_flight = {
            peer: request
            for peer, request in self._in_flight.items()
            if request.target_id != block_id
        }

    # ---- answers -----------------------------------------------------------------------------

    def is_solicited(self, sender: int, response: BlockResponse | CommittedResponse) -> bool:
        """Is this an answer that is awaited from this member?

        What is not may be an honest answer to an earlier request, late or doubled on its way, so
        nobody is blamed for it.
        """
        request = self._in_flight.get(sender)
        if request is None:
            return False
        if isinstance(response, CommittedResponse) or request.block_id is None:
            return isinstance(response, CommittedResponse) and request.block_id is None
        blocks = response.blocks
        return not blocks or blocks[0].block_id(self._chain_id) == request.block_id

    def pass_over(self, sender: int) -> None:
        """A member answered with something else than what it was asked for: ask the next one."""
        self._end_request(sender)

    def refute(self, sender: int) -> None:
        """A member gave an awaited answer that is refused: ask it no more for this block."""
        target = self._end_request(sender)
        if target is not None:
            target.liars.add(sender)

    def take_blocks(self, sender: int, response: BlockResponse) -> list[BlockWithId]:
        """The answered blocks, oldest first: the one asked for and ancestors of it.

        Raises `ValidationError` if they are anything else.
        """
        block_id = self._in_flight[sender].block_id
        assert block_id is not None, "the answer is of the kind that was asked for"
        chain = self._validate_chain(response.blocks, block_id)
        self._finish_request(sender, is_progress=bool(chain))
        return chain[::-1]

    def take_committed(self, sender: int, response: CommittedResponse) -> list[BlockWithId]:
        """The answered blocks, oldest first, ending in the one that the proof certifies; none if
        they do not continue the chain that is here.

        Raises `ValidationError` if they are not one chain.
        """
        if response.proof is None:
            self._finish_request(sender, is_progress=False)
            return []
        chain = self._validate_chain(response.blocks[::-1], response.proof.block_id)[::-1]
        last_id, last = chain[-1]
        root = self._tree.root
        connects = self._tree.get(chain[0][1].parent_id) is not None
        is_progress = connects and self._tree.get(last_id) is None
        self._finish_request(sender, is_progress)
        # Above what it brings, also if that came before and commits nothing yet.
        is_ahead = connects and last.height > root.height
        self._frontier_id = last_id if is_ahead else root.block_id
        return chain if is_progress else []

    def _validate_chain(self, newest_first: Sequence[Block], block_id: bytes) -> list[BlockWithId]:
        chain: list[BlockWithId] = []
        for block in newest_first:
            validate_links(block)
            if block.block_id(self._chain_id) != block_id:
                raise ValidationError("sync.chain_broken")
            chain.append((block_id, block))
            block_id = block.parent_id
        return chain

    def _finish_request(self, sender: int, is_progress: bool) -> None:
        target = self._end_request(sender)
        if target is not None and is_progress:
            target.attempts = 0
            target.asked.discard(sender)

    def _end_request(self, peer: int) -> _Target | None:
        """Free the place of a request; returns the target that it was for, if any."""
        request = self._in_flight.pop(peer, None)
        if request is None or request.target_id is None:
            return None
        return self._targets.get(request.target_id)
