"""Blocks and certificates to and from single peers: what they lack, and what this node lacks (S1,
S2, A3). Votes and proposals are the core's own business.
"""

from collections.abc import Sequence
from typing import Final

from consensus.bans import Bans
from consensus.chain import Chain
from consensus.messages import (
    Advance,
    BlockRequest,
    BlockResponse,
    CommittedRequest,
    CommittedResponse,
)
from consensus.outbox import Outbox
from consensus.ownership import Component, make_timer_name
from consensus.safety import SafetyState, compute_entry_tc
from consensus.serving import Allowance, BlockServer
from consensus.sync import BlockSync, Outgoing
from consensus.types import QC
from consensus.validation import ValidationError

SYNC_TIMER: Final = make_timer_name(Component.CONSENSUS, "sync")


class Exchange:
    """Answers requests within each peer's allowance, and makes the node's own."""

    def __init__(
        self,
        chain_id: bytes,
        member_count: int,
        me: int | None,
        chain: Chain,
        out: Outbox,
        retry_ms: int,
        bans: Bans,
    ) -> None:
        self._me = me
        self._chain = chain
        self._out = out
        self.sync = BlockSync(chain_id, member_count, me, chain.tree, retry_ms, bans)
        self._server = BlockServer(chain.tree, member_count)
        self._advances = Allowance(member_count)

    def tell_news(self, now_ms: int, peer: int, state: SafetyState) -> None:
        """A3: tell a member that lags which certificates ended its view."""
        if peer != self._me and self._advances.take(now_ms, peer):
            self._out.send((peer,), Advance(state.high_qc, compute_entry_tc(state)))

    def serve(self, now_ms: int, peer: int, request: BlockRequest | CommittedRequest) -> None:
        """Answer a request, unless this peer asks too often."""
        answer = self._server.serve(now_ms, peer, request)
        if answer is not None:
            self._out.add(answer)

    def fetch(self, now_ms: int, high_qc: QC) -> None:
        """S1, S2: ask for what the newest certificate needs and the tree lacks."""
        self.sync.want(high_qc)
        deadline_ms: int | None = None
        if self.sync.is_busy:
            self._request(self.sync.next_requests(now_ms))
            deadline_ms = self.sync.compute_deadline_ms(now_ms)
        self._out.set_timer(SYNC_TIMER, deadline_ms)

    def poll(self, now_ms: int) -> None:
        """Ask for what comes next, as an observer must."""
        self._request(self.sync.poll(now_ms))

    def _request(self, requests: Sequence[Outgoing]) -> None:
        for peer, message in requests:
            self._out.send((peer,), message)

    def take(self, sender: int, response: BlockResponse | CommittedResponse) -> int | None:
        """Put the blocks of an answer into the chain. Returns how many it brought; None for an
        answer that is refused or that nobody waits for any more."""
        if not self.sync.is_solicited(sender, response):
            return None
        try:
            blocks = (
                self.sync.take_blocks(sender, response)
                if isinstance(response, BlockResponse)
                else self.sync.take_committed(sender, response)
            )
        except ValidationError as error:
            self.sync.refute(sender)
            self._out.refuse(sender, error.code, error.detail)
            return None
        for block_id, block in blocks:
            self._chain.add_block(block, block_id, is_certified=True)
        return len(blocks)
