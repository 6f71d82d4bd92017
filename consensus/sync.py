"""Fetching blocks: a certified block that is missing, and the whole chain after an absence.

What is fetched is always named by a verified certificate, so a peer can withhold but not deceive:
blocks are accepted when they hash to the ids that a certificate and their children name, one below
the other. That also vouches for the certificates inside them: a quorum voted for the named block,
so honest members verified the certificate of its parent before they voted, and so on down.

A responder's claims about heights or epochs decide nothing. The height that chooses between the
two ways below is the one its quorum signed:

- near (S1): `BlockRequest` by id, newest first, to the signers of the certificate in turn;
- far (S2): `CommittedRequest` by rising height; the receiver replays the commit rule itself.

At most `REQUESTS_IN_FLIGHT_MAX` requests are under way, each to another member; retries rotate and
slow down. A target that nobody serves is dropped in the end and starts afresh with the next
certificate that needs it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from consensus.block_tree import COMMITTED_BLOCKS_KEPT
from consensus.messages import (
    BLOCKS_MAX_PER_RESPONSE,
    SYNC_RESPONSE_MAX_BYTES,
    BlockRequest,
    BlockResponse,
    CommittedRequest,
)
from consensus.types import QC, Block
from consensus.validation import ValidationError, validate_links
from crypto.codec import encode

REQUESTS_IN_FLIGHT_MAX: Final = 2
TARGETS_MAX: Final = 4
"""Certified blocks wanted at a time; beyond it the one of the lowest view is dropped."""
ATTEMPTS_MAX: Final = 24
"""Requests made for one target without any progress before it is dropped."""
RETRY_STEPS_MAX: Final = 6
"""A retry waits at most 1.5 to this power times the base wait."""
FAR_HEIGHTS: Final = COMMITTED_BLOCKS_KEPT // 2
"""A target this far above the root is reached by rising height: its ancestors may have left the
window in which peers keep committed blocks at hand."""

SERVE_BURST: Final = 16
SERVE_REFILL_MS: Final = 20
"""One peer gets `SERVE_BURST` answers at once and then one every `SERVE_REFILL_MS`."""


class TokenBucket:
    """Permits at a bounded rate."""

    def __init__(self, burst: int, refill_ms: int) -> None:
        self._burst = burst
        self._refill_ms = refill_ms
        self._empty_until_ms = 0
        """The bucket is full `burst * refill_ms` after this time."""

    def take(self, now_ms: int) -> bool:
        """Take one permit if there is one."""
        floor_ms = now_ms - self._burst * self._refill_ms
        used_ms = max(self._empty_until_ms, floor_ms)
        if used_ms + self._refill_ms > now_ms:
            return False
        self._empty_until_ms = used_ms + self._refill_ms
        return True


@dataclass(slots=True)
class Target:
    """A certified block that is missing, or whose ancestors are."""

    qc: QC
    peers: tuple[int, ...]
    """Members to ask in turn: the certificate's signers."""
    attempts: int = 0


@dataclass(slots=True, frozen=True)
class Request:
    """A request under way to one member."""

    target_id: bytes
    block_id: bytes | None
    """What a `BlockRequest` asked for; None for a `CommittedRequest`."""
    deadline_ms: int
    is_answered: bool = False


class BlockSync:
    """Which blocks are wanted and who was asked."""

    def __init__(self, chain_id: bytes, retry_ms: int) -> None:
        self._chain_id = chain_id
        self._retry_ms = retry_ms
        self._targets: dict[bytes, Target] = {}
        self._in_flight: dict[int, Request] = {}

    @property
    def target_count(self) -> int:
        """Blocks wanted."""
        return len(self._targets)

    @property
    def in_flight_count(self) -> int:
        """Requests under way."""
        return len(self._in_flight)

    def want(self, qc: QC, peers: Sequence[int]) -> None:
        """Ask for a certified block until it is connected or given up."""
        if not peers or qc.block_id in self._targets:
            return
        self._targets[qc.block_id] = Target(qc, tuple(peers))
        if len(self._targets) > TARGETS_MAX:
            self.drop(min(self._targets, key=lambda key: self._targets[key].qc.view))

    def drop(self, block_id: bytes) -> None:
        """Stop asking for a block."""
        self._targets.pop(block_id, None)
        self._in_flight = {
            peer: request
            for peer, request in self._in_flight.items()
            if request.target_id != block_id
        }

    def targets(self) -> tuple[Target, ...]:
        """What is wanted, newest certificate first."""
        return tuple(sorted(self._targets.values(), key=lambda t: t.qc.view, reverse=True))

    def compute_deadline_ms(self) -> int | None:
        """When the next request under way is given up."""
        return min((request.deadline_ms for request in self._in_flight.values()), default=None)

    def expire(self, now_ms: int) -> None:
        """Give up the requests that nobody answered, and the targets that nobody serves."""
        self._in_flight = {
            peer: request
            for peer, request in self._in_flight.items()
            if request.deadline_ms > now_ms
        }
        for target in self.targets():
            if target.attempts >= ATTEMPTS_MAX:
                self.drop(target.qc.block_id)

    def next_request(
        self, now_ms: int, target: Target, missing_id: bytes, root_height: int, from_height: int
    ) -> tuple[int, BlockRequest | CommittedRequest] | None:
        """The next request for a target, to whom it goes; None if enough is under way.

        `missing_id` is the block to fetch next by id, `from_height` the first height to fetch
        otherwise.
        """
        target_id = target.qc.block_id
        if len(self._in_flight) >= REQUESTS_IN_FLIGHT_MAX or any(
            request.target_id == target_id for request in self._in_flight.values()
        ):
            return None
        free = [peer for peer in target.peers if peer not in self._in_flight]
        if not free:
            return None
        peer = free[target.attempts % len(free)]
        # Every third attempt goes the other way: the peers may have moved on since.
        is_far = target.qc.height - root_height > FAR_HEIGHTS
        by_height = is_far != (target.attempts % 3 == 2)
        steps = min(target.attempts, RETRY_STEPS_MAX)
        target.attempts += 1
        deadline_ms = now_ms + self._retry_ms * 3**steps // 2**steps
        self._in_flight[peer] = Request(target_id, None if by_height else missing_id, deadline_ms)
        if by_height:
            return peer, CommittedRequest(from_height)
        return peer, BlockRequest(missing_id, root_height)

    def is_solicited(self, sender: int, *, by_height: bool) -> bool:
        """Is an answer of this kind awaited from this member?"""
        request = self._in_flight.get(sender)
        if request is None or request.is_answered:
            return False
        return (request.block_id is None) == by_height

    def take_answer(self, sender: int) -> Request:
        """An awaited answer arrived. Its request still holds its place until the deadline, so that
        useless answers do not make this node ask faster."""
        request = self._in_flight[sender]
        self._in_flight[sender] = replace(request, is_answered=True)
        return request

    def record_progress(self, sender: int) -> None:
        """The answer helped: ask for what comes next at once."""
        target = self._targets.get(self._in_flight.pop(sender).target_id)
        if target is not None:
            target.attempts = 0

    def compute_chain(self, request: Request, response: BlockResponse) -> list[tuple[bytes, Block]]:
        """The answered blocks with their ids, oldest first.

        Raises `ValidationError` unless they are the requested block and its ancestors.
        """
        expected = request.block_id
        chain: list[tuple[bytes, Block]] = []
        for block in response.blocks:
            validate_links(block)
            if block.block_id(self._chain_id) != expected:
                raise ValidationError("sync.not_requested")
            chain.append((expected, block))
            expected = block.parent_id
        return chain[::-1]

    def compute_committed_chain(
        self, blocks: Sequence[Block], proof: QC
    ) -> list[tuple[bytes, Block]]:
        """The answered blocks with their ids, oldest first.

        Raises `ValidationError` unless each is the next one's parent and `proof` certifies the
        last.
        """
        expected = proof.block_id
        chain: list[tuple[bytes, Block]] = []
        for block in reversed(blocks):
            validate_links(block)
            if block.block_id(self._chain_id) != expected:
                raise ValidationError("sync.chain_broken")
            chain.append((expected, block))
            expected = block.parent_id
        return chain[::-1]


def select_response_blocks(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """As many of the blocks, in order, as one response may hold; at least one."""
    size_bytes = 0
    selected: list[Block] = []
    for block in blocks[:BLOCKS_MAX_PER_RESPONSE]:
        size_bytes += len(encode(block))
        if selected and size_bytes > SYNC_RESPONSE_MAX_BYTES:
            break
        selected.append(block)
    return tuple(selected)
