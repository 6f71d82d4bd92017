"""Rules beside consensus: lanes, delivery and execution, and what is proof of guilt."""

from typing import Final

from localnet.sim.mutants import Mutant, make_mutant

_VOTES: Final = "consensus.votes:"

_CONVICTING: Final = (
    make_mutant(
        "double_vote_unseen",
        "V5: two votes of a view are evidence",
        f"{_VOTES}VoteCollector.add",
        "if held.data != vote.data:",
        "if False:",
        first=("liar:double_vote", "liar:equivocating_leader_voting"),
    ),
    make_mutant(
        "double_timeout_unseen",
        "V5: two timeouts of a view are evidence",
        f"{_VOTES}TimeoutCollector.add",
        "return held if held.data != timeout.data else None",
        "return None",
        first=("liar:conflicting_timeouts+losses", "liar:conflicting_timeouts+crashes"),
    ),
    make_mutant(
        "double_proposal_unseen",
        "V5: two proposals of a view are evidence",
        "consensus.core:ConsensusCore._apply_proposal",
        "if seen.block_id != block_id:",
        "if False:",
        "consensus.core:ConsensusCore._compare_proposal",
        "if seen is not None:",
        "if False:",
        first=("liar:equivocating_leader_both", "liar:equivocating_leader"),
    ),
    make_mutant(
        "proposal_unshown_in_timeouts",
        "V5: a timeout shows what was proposed in its view",
        "consensus.voter:Voter.send_signed",
        "self._proposals.show(data.view)",
        "None",
        first=("liar:equivocating_leader_halves",),
    ),
    make_mutant(
        "proposal_unshown_to_a_quorum",
        "V5: the voters of a rival are shown what was proposed here",
        "consensus.core:ConsensusCore._show_rival",
        "self._proposals.take_rival(qc.view, qc.block_id)",
        "None",
        first=("liar:equivocating_leader_one",),
    ),
    make_mutant(
        "double_result_unseen",
        "V5: two results of a height are evidence",
        "consensus.state_votes:StateVoteCollector.offer",
        "if first.header != header:",
        "if False:",
        first=("liar:double_state_vote",),
    ),
)

_LANES: Final = (
    make_mutant(
        "ack_before_stored",
        "D1: what is acknowledged is durable",
        "consensus.lane_chain:Link.is_ready",
        "self.is_stored and self.is_checked",
        "self.is_checked",
        first=("quiet",),
    ),
    make_mutant(
        "ack_before_checked",
        "D1: what is acknowledged was checked",
        "consensus.lane_chain:Link.is_ready",
        "self.is_stored and self.is_checked",
        "self.is_stored",
        first=("liar:garbage_bodies", "quiet"),
    ),
    make_mutant(
        "lane_fork_unseen",
        "D2: two batches at one place are evidence",
        "consensus.lane_intake:BatchIntake._compare",
        "if other.header != header:",
        "if False:",
        first=("liar:forked_lane",),
    ),
    make_mutant(
        "ack_above_a_fork",
        "D2: nothing is acknowledged from a fork on",
        "consensus.lane_chain:LaneChain.find_ackable",
        "if fork is None or fork > self.tip.sequence:",
        "if True:",
        first=("liar:certified_fork", "liar:forked_lane_split+crashes", "liar:forked_lane"),
    ),
    make_mutant(
        "lane_without_parents",
        "D3: each batch names the one before",
        "consensus.lane_chain:LaneChain.apply_ready",
        "link.is_ready and link.signed_header.header.parent == self.tip.batch_id",
        "link.is_ready",
        first=("liar:forked_lane_split", "liar:forked_lane"),
    ),
)

_DELIVERING: Final = (
    make_mutant(
        "delivered_twice",
        "E1: a lane is delivered from its cursor on",
        "consensus.lanes:Lanes.on_committed",
        "            chain.cursor.sequence,\n",
        "            max(chain.cursor.sequence - 1, 0),\n",
        first=("quiet",),
    ),
    make_mutant(
        "nonce_again",
        "E2: a nonce passes once",
        "mempool.nonce:NonceWindow.check",
        "return RefusalCode.NONCE_DUPLICATE",
        "return None",
        "mempool.nonce:NonceWindow.apply_nonce",
        "assert position == len(self._kept) or self._kept[position] != nonce",
        "pass",
        first=("quiet",),
    ),
    make_mutant(
        "expired_executes",
        "E3: what has expired is refused",
        "mempool.ledger:HeaderLedger.check",
        "if height >= header.expiry_height:",
        "if False:",
        first=("losses", "liar:silent"),
    ),
    make_mutant(
        "level_told_again",
        "E5: each level is told once",
        "node.tracking:EnvelopeTracker._replace",
        "known.level.rank >= status.level.rank",
        "known.level.rank > status.level.rank",
        first=("quiet",),
    ),
    make_mutant(
        "expiry_untold",
        "E6: what expires is told to be refused",
        "node.clerk:Clerk.tell_refused",
        "self.tracker.expiring_at(height)",
        "[]",
        first=("losses",),
    ),
    make_mutant(
        "evidence_unverified",
        "E4: evidence convicts if both signatures hold",
        "node.offences:Judge.on_verified",
        "all(results[2 * number : 2 * number + 2])",
        "True",
        first=("liar:false_accuser",),
    ),
    make_mutant(
        "checkpoint_of_another_height",
        "S2: a result is certified for the height that was executed",
        "node.execution:make_checkpoint_header",
        "height=block.height,",
        "height=block.height + 1,",
        first=("quiet",),
    ),
)

LANES: Final[tuple[Mutant, ...]] = (
    *_CONVICTING,
    *_LANES,
    *_DELIVERING,
)
