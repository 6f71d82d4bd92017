"""Rules of one member: what it may vote for, give up, propose and commit, and write first."""

from typing import Final

from localnet.sim.mutants import Mutant, make_mutant

_SAFETY: Final = "consensus.safety:"
_CHECKS: Final = "consensus.validation:Validator."
_VOTER: Final = "consensus.voter:Voter."

_VOTING: Final = (
    make_mutant(
        "vote_in_another_epoch",
        "V1: a vote is of the epoch of the state",
        f"{_SAFETY}is_safe_to_vote",
        "block.epoch == state.epoch\n        and ",
        "",
        f"{_CHECKS}check_proposal",
        'self._require_epoch(block.epoch, "proposal.epoch")',
        "pass",
        first=("liar:future_epoch",),
    ),
    make_mutant(
        "vote_again",
        "V1: a vote is above the last voted view",
        f"{_SAFETY}is_safe_to_vote",
        "        and view > state.last_voted_view\n",
        "",
        first=("quiet",),
    ),
    make_mutant(
        "view_without_tc",
        "V2: the current view is one above the newest QC or TC",
        f"{_SAFETY}compute_view",
        "max(state.high_qc.view, state.high_tc.view if state.high_tc else 0)",
        "state.high_qc.view",
        first=("liar:silent",),
    ),
    make_mutant(
        "vote_for_unjustified",
        "V3: without a TC the QC is of the view before",
        f"{_SAFETY}is_justified",
        "if block.qc.view + 1 == view:",
        "if block.tc is None:",
        f"{_CHECKS}check_block",
        "if block.view == block.qc.view + 1:",
        "if block.tc is None:",
        first=("liar:stale_qc",),
    ),
    make_mutant(
        "vote_on_past_tc",
        "V3: the TC is of the view before",
        f"{_SAFETY}is_justified",
        "and tc.view + 1 == view ",
        "",
        f"{_CHECKS}check_block",
        "block.tc is None or block.tc.view + 1 != block.view",
        "block.tc is None",
        first=("liar:stale_tc+crashes", "liar:stale_tc+losses"),
    ),
    make_mutant(
        "vote_below_the_tc",
        "V3: the QC is as new as the newest that the TC's signers reported",
        f"{_SAFETY}is_justified",
        " and block.qc.view >= tc.high_qc.view",
        "",
        f"{_CHECKS}check_block",
        '_require(block.qc.view >= block.tc.high_qc.view, "block.qc_older_than_tc")',
        "pass",
        first=("liar:older_qc+losses", "liar:older_qc+crashes"),
    ),
    make_mutant(
        "vote_for_the_future",
        "V4: no vote for a block ahead of the clock",
        "consensus.core:ConsensusCore._maybe_vote",
        "if timely_at_ms <= self._now_ms:",
        "if True:",
        first=("generated",),
    ),
)

_TIMING_OUT: Final = (
    make_mutant(
        "timeout_below_the_lock",
        "T1: a timeout names the newest certificate",
        f"{_SAFETY}compute_timeout",
        "    data = TimeoutData(",
        "    if state.last_timeout:\n"
        "        state = replace(state, high_qc=state.last_timeout.high_qc)\n"
        "    data = TimeoutData(",
        first=("liar:silent",),
    ),
    make_mutant(
        "timeout_hides_the_tip",
        "T1: a timeout names the newest block voted for",
        f"{_SAFETY}compute_tip_view",
        "return vote.view if vote is not None and vote.view > state.high_qc.view else 0",
        "return 0",
        first=("losses",),
    ),
    make_mutant(
        "vote_after_timeout",
        "T2: no vote in a view that was given up",
        f"{_SAFETY}apply_timeout",
        "        last_voted_view=max(state.last_voted_view, timeout.data.view),\n",
        "",
        first=("liar:late_leader", "losses"),
    ),
    make_mutant(
        "timeout_twice",
        "T2: one timeout a view",
        f"{_SAFETY}is_timed_out",
        "timeout is not None and timeout.data.view >= compute_view(state)",
        "False",
        first=("liar:silent",),
    ),
)

_PROPOSING: Final = (
    make_mutant(
        "propose_again",
        "L1: one proposal a view",
        f"{_SAFETY}is_safe_to_propose",
        "        and view > state.last_proposed_view\n",
        "",
        first=("quiet",),
    ),
    make_mutant(
        "propose_after_timeout",
        "L1: no proposal in a view that was given up",
        f"{_SAFETY}is_safe_to_propose",
        "        and view > state.last_voted_view\n",
        "",
        first=("clocks",),
    ),
    make_mutant(
        "anybody_proposes",
        "B1: the view's leader proposes",
        f"{_CHECKS}check_proposal",
        '_require(author == self._schedule.leader(proposal.view), "proposal.not_leader")',
        "pass",
        first=("liar:usurper",),
    ),
    make_mutant(
        "any_parent",
        "B1: the certificate in a block is its parent's, and so is the height",
        "consensus.validation:validate_links",
        '_require(block.parent_id == block.qc.block_id, "block.parent_mismatch")',
        "pass",
        "consensus.validation:validate_links",
        '_require(block.height == block.qc.height + 1, "block.height")',
        "pass",
        first=("liar:wrong_uncle", "liar:wrong_parent"),
    ),
)

_COMMITTING: Final = (
    make_mutant(
        "fast_hotstuff",
        "C1: the two certificates are of consecutive views (the flaw of Fast-HotStuff)",
        "consensus.chain:Chain._maybe_commit",
        " or qc.view != node.block.qc.view + 1",
        "",
    ),
    make_mutant(
        "commit_on_one_certificate",
        "C1: a block is committed by its child's certificate, not by its own",
        "consensus.chain:Chain._maybe_commit",
        "self._commit(parent, node.block.qc)",
        "self._commit(node, qc)",
        first=("quiet",),
    ),
    make_mutant(
        "commit_newest_first",
        "C2: ancestors are committed oldest first",
        "consensus.block_tree:BlockTree.commit",
        "chain = list(self.ancestors(node))[::-1]",
        "chain = list(self.ancestors(node))",
        first=("liar:silent",),
    ),
    make_mutant(
        "commit_without_ancestors",
        "C2: a commit covers all ancestors",
        "consensus.block_tree:BlockTree.commit",
        "chain = list(self.ancestors(node))[::-1]",
        "chain = [node]",
        first=("liar:silent",),
    ),
)

_PERSISTING: Final = (
    *(
        make_mutant(
            f"{kind}_forgets_{what}",
            f"P1: a {kind} is preceded by its {what} on disk",
            f"{_SAFETY}make_{kind}_puts",
            old,
            new,
            first=("quiet",) if kind != "timeout" else ("liar:silent",),
        )
        for kind, what, old, new in (
            ("vote", "state", "        make_state_put(state),\n", ""),
            ("vote", "record", "Put(VOTE_TABLE, compute_key(vote.view), encode(vote)),", ""),
            ("vote", "block", "        make_block_put(block, vote.block_id),\n", ""),
            ("timeout", "state", "make_state_put(state), Put(", "*(), Put("),
            ("timeout", "record", "Put(TIMEOUT_TABLE, key, encode(timeout.data))", ""),
            ("proposal", "state", "        make_state_put(state),\n", ""),
            ("proposal", "record", "Put(PROPOSAL_TABLE, compute_key(view), block_id),", ""),
            ("proposal", "block", "        make_block_put(block, block_id),\n", ""),
        )
    ),
    make_mutant(
        "state_vote_forgets_record",
        "P1: a state vote is preceded by its record on disk",
        "consensus.state_signer:StateVoteSigner.vote",
        "(Put(STATE_VOTE_TABLE, compute_key(header.height), encode(header)),)",
        "()",
        first=("quiet",),
    ),
    make_mutant(
        "vote_leaves_at_once",
        "P1: a vote waits for its record",
        f"{_VOTER}send_signed",
        "self._out.send(collectors, Vote(data, self._me, signature), decision.after)",
        "self._out.send(collectors, Vote(data, self._me, signature))",
        first=("quiet",),
    ),
    make_mutant(
        "timeout_leaves_at_once",
        "P1: a timeout waits for its record",
        f"{_VOTER}send_signed",
        "self._out.send(self._everyone, timeout, decision.after)",
        "self._out.send(self._everyone, timeout)",
        first=("liar:silent",),
    ),
    make_mutant(
        "proposal_leaves_at_once",
        "P1: a proposal waits for its record",
        f"{_VOTER}send_signed",
        "self._out.send(self._others, proposal, decision.after)",
        "self._out.send(self._others, proposal)",
        first=("quiet",),
    ),
    make_mutant(
        "state_vote_leaves_at_once",
        "P1: a state vote waits for its record",
        "consensus.state_signer:StateVoteSigner.on_signed",
        "Send(self._everybody, vote, own.after)",
        "Send(self._everybody, vote)",
        first=("quiet",),
    ),
    make_mutant(
        "restart_without_memory",
        "R1: a restarted member goes on from its safety record",
        "consensus.recovery:recover",
        "if state_bytes is None\n            else decode(SafetyState, state_bytes)",
        "if True\n            else decode(SafetyState, state_bytes)",
        first=("crashes",),
    ),
)

MEMBERS: Final[tuple[Mutant, ...]] = (
    *_VOTING,
    *_TIMING_OUT,
    *_PROPOSING,
    *_COMMITTING,
    *_PERSISTING,
)
