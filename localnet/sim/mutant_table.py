"""The rules that mutants switch off: one entry a conjunct, a record, a check."""

from typing import Final

from localnet.sim.mutants import Change, Mutant

_SAFETY: Final = "consensus.safety:"
_CHECKS: Final = "consensus.validation:Validator."
_VOTER: Final = "consensus.voter:Voter."
_VOTES: Final = "consensus.votes:"


def _mutant(name: str, rule: str, *parts: str, first: tuple[str, ...] = ()) -> Mutant:
    """`parts` are targets, each followed by the old and the new text."""
    changes = tuple(Change(*parts[place : place + 3]) for place in range(0, len(parts), 3))
    return Mutant(name, rule, changes, first)


_VOTING: Final = (
    _mutant(
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
    _mutant(
        "vote_again",
        "V1: a vote is above the last voted view",
        f"{_SAFETY}is_safe_to_vote",
        "        and view > state.last_voted_view\n",
        "",
        first=("quiet",),
    ),
    _mutant(
        "view_without_tc",
        "V2: the current view is one above the newest QC or TC",
        f"{_SAFETY}compute_view",
        "max(state.high_qc.view, state.high_tc.view if state.high_tc else 0)",
        "state.high_qc.view",
        first=("liar:silent",),
    ),
    _mutant(
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
    _mutant(
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
    _mutant(
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
    _mutant(
        "vote_for_the_future",
        "V4: no vote for a block ahead of the clock",
        "consensus.core:ConsensusCore._maybe_vote",
        "if timely_at_ms <= self._now_ms:",
        "if True:",
        first=("generated",),
    ),
)

_TIMING_OUT: Final = (
    _mutant(
        "timeout_below_the_lock",
        "T1: a timeout names the newest certificate",
        f"{_SAFETY}compute_timeout",
        "    data = TimeoutData(",
        "    if state.last_timeout:\n"
        "        state = replace(state, high_qc=state.last_timeout.high_qc)\n"
        "    data = TimeoutData(",
        first=("liar:silent",),
    ),
    _mutant(
        "timeout_hides_the_tip",
        "T1: a timeout names the newest block voted for",
        f"{_SAFETY}compute_tip_view",
        "return vote.view if vote is not None and vote.view > state.high_qc.view else 0",
        "return 0",
        first=("losses",),
    ),
    _mutant(
        "vote_after_timeout",
        "T2: no vote in a view that was given up",
        f"{_SAFETY}apply_timeout",
        "        last_voted_view=max(state.last_voted_view, timeout.data.view),\n",
        "",
        first=("liar:late_leader", "losses"),
    ),
    _mutant(
        "timeout_twice",
        "T2: one timeout a view",
        f"{_SAFETY}is_timed_out",
        "timeout is not None and timeout.data.view >= compute_view(state)",
        "False",
        first=("liar:silent",),
    ),
)

_PROPOSING: Final = (
    _mutant(
        "propose_again",
        "L1: one proposal a view",
        f"{_SAFETY}is_safe_to_propose",
        "        and view > state.last_proposed_view\n",
        "",
        first=("quiet",),
    ),
    _mutant(
        "propose_after_timeout",
        "L1: no proposal in a view that was given up",
        f"{_SAFETY}is_safe_to_propose",
        "        and view > state.last_voted_view\n",
        "",
        first=("clocks",),
    ),
    _mutant(
        "anybody_proposes",
        "B1: the view's leader proposes",
        f"{_CHECKS}check_proposal",
        '_require(author == self._schedule.leader(proposal.view), "proposal.not_leader")',
        "pass",
        first=("liar:usurper",),
    ),
    _mutant(
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
    _mutant(
        "fast_hotstuff",
        "C1: the two certificates are of consecutive views (the flaw of Fast-HotStuff)",
        "consensus.chain:Chain._maybe_commit",
        " or qc.view != node.block.qc.view + 1",
        "",
    ),
    _mutant(
        "commit_on_one_certificate",
        "C1: a block is committed by its child's certificate, not by its own",
        "consensus.chain:Chain._maybe_commit",
        "self._commit(parent, node.block.qc)",
        "self._commit(node, qc)",
        first=("quiet",),
    ),
    _mutant(
        "commit_newest_first",
        "C2: ancestors are committed oldest first",
        "consensus.block_tree:BlockTree.commit",
        "chain = list(self.ancestors(node))[::-1]",
        "chain = list(self.ancestors(node))",
        first=("liar:silent",),
    ),
    _mutant(
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
        _mutant(
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
    _mutant(
        "state_vote_forgets_record",
        "P1: a state vote is preceded by its record on disk",
        "consensus.state_signer:StateVoteSigner.vote",
        "(Put(STATE_VOTE_TABLE, compute_key(header.height), encode(header)),)",
        "()",
        first=("quiet",),
    ),
    _mutant(
        "vote_leaves_at_once",
        "P1: a vote waits for its record",
        f"{_VOTER}send_signed",
        "self._out.send(collectors, Vote(data, self._me, signature), decision.after)",
        "self._out.send(collectors, Vote(data, self._me, signature))",
        first=("quiet",),
    ),
    _mutant(
        "timeout_leaves_at_once",
        "P1: a timeout waits for its record",
        f"{_VOTER}send_signed",
        "self._out.send(self._everyone, timeout, decision.after)",
        "self._out.send(self._everyone, timeout)",
        first=("liar:silent",),
    ),
    _mutant(
        "proposal_leaves_at_once",
        "P1: a proposal waits for its record",
        f"{_VOTER}send_signed",
        "self._out.send(self._others, proposal, decision.after)",
        "self._out.send(self._others, proposal)",
        first=("quiet",),
    ),
    _mutant(
        "state_vote_leaves_at_once",
        "P1: a state vote waits for its record",
        "consensus.state_signer:StateVoteSigner.on_signed",
        "Send(self._everybody, vote, own.after)",
        "Send(self._everybody, vote)",
        first=("quiet",),
    ),
    _mutant(
        "restart_without_memory",
        "R1: a restarted member goes on from its safety record",
        "consensus.recovery:recover",
        "if state_bytes is None\n            else decode(SafetyState, state_bytes)",
        "if True\n            else decode(SafetyState, state_bytes)",
        first=("crashes",),
    ),
)

_CERTIFYING: Final = (
    _mutant(
        "qc_without_quorum",
        "Q1: a QC has a quorum",
        f"{_CHECKS}check_qc",
        'self._require_power(signers, self._committee.quorum_power, "qc.power")',
        "pass",
        first=("liar:forged_qc",),
    ),
    _mutant(
        "qc_unverified",
        "Q1: the signature of a QC is verified",
        f"{_CHECKS}check_qc",
        "return [self._make_check(qc, ",
        "return [] and [self._make_check(qc, ",
        first=("liar:hollow_qc",),
    ),
    _mutant(
        "any_genesis",
        "G1: only the exact certificate of genesis needs no signature",
        f"{_CHECKS}check_qc",
        "qc == self._genesis",
        "qc.view == GENESIS_VIEW",
        first=("liar:tampered_genesis",),
    ),
    _mutant(
        "tc_without_quorum",
        "Q2: a TC has a quorum",
        f"{_CHECKS}check_tc",
        'self._require_power(sorted(seen), self._committee.quorum_power, "tc.power")',
        "pass",
        first=("liar:forged_last_certificate",),
    ),
    _mutant(
        "tc_unverified",
        "Q2: the signatures of a TC are verified",
        f"{_CHECKS}check_tc",
        "return [*self.check_qc(tc.high_qc), Check(tc, tuple(claims))]",
        "return self.check_qc(tc.high_qc)",
        first=("liar:hollow_last_certificate",),
    ),
    _mutant(
        "tc_counts_twice",
        "Q2: nobody signs two groups of a TC",
        f"{_CHECKS}check_tc",
        '_require(seen.isdisjoint(signers), "tc.signers_overlap")',
        "pass",
        f"{_CHECKS}check_tc",
        "self._require_power(sorted(seen), ",
        "self._require_power([signer for group in tc.groups for signer in"
        ' self._decode_signers(group.signers, "")], ',
        first=("liar:twice_counted",),
    ),
    _mutant(
        "tc_in_any_order",
        "Q2: the groups of a TC rise",
        f"{_CHECKS}check_tc",
        "all(low < high for low, high in pairwise(reported))",
        "True",
        first=("liar:reordered_tc+crashes", "liar:reordered_tc+losses"),
    ),
    _mutant(
        "tc_below_its_maximum",
        "Q2: the QC of a TC is the newest that its signers named",
        f"{_CHECKS}check_tc",
        '_require(tc.high_qc.view == tc.groups[-1].high_qc_view, "tc.high_qc_not_maximum")',
        "pass",
        first=("liar:lowered_tc+crashes", "liar:lowered_tc+losses"),
    ),
    _mutant(
        "availability_without_power",
        "A1: an availability certificate has honest power",
        "consensus.validation:compute_availability_claim",
        '_require(committee.power_of(signers) >= committee.honest_power, "availability.power")',
        "pass",
        first=("liar:invalid_availability",),
    ),
    _mutant(
        "availability_unverified",
        "A1: the signature of an availability certificate is verified",
        f"{_CHECKS}check_availability",
        "return [Check(certificate, (claim,))]",
        "return []",
        first=("liar:hollow_availability",),
    ),
    _mutant(
        "lane_certificate_unverified",
        "A1: so is that of one that the lane's author sends",
        "consensus.lane_certificates:LaneCertificates.on_verified",
        "if not all(event.results):",
        "if False:",
        first=("liar:hollow_availability",),
    ),
    _mutant(
        "state_without_quorum",
        "S1: a state certificate has a quorum",
        f"{_CHECKS}check_state",
        'self._require_power(signers, self._committee.quorum_power, "state.power")',
        "pass",
        first=("liar:forged_state",),
    ),
    _mutant(
        "state_unverified",
        "S1: the signature of a state certificate is verified",
        f"{_CHECKS}check_state",
        "return [self._make_check(certificate, signers, message, certificate.signature)]",
        "return []",
        first=("liar:hollow_state",),
    ),
    _mutant(
        "verdicts_ignored",
        "M1: a message whose signatures do not hold changes nothing",
        "consensus.core:ConsensusCore.step",
        "if verdict.is_valid:",
        "if True:",
        first=("liar:hollow_qc",),
    ),
    _mutant(
        "votes_by_anybody",
        "M2: a vote comes from its author",
        f"{_CHECKS}check_vote",
        '_require(sender == vote.author, "vote.author")',
        "pass",
        first=("liar:impersonation",),
    ),
    _mutant(
        "timeouts_of_any_epoch",
        "M3: a timeout is of the committee's epoch",
        f"{_CHECKS}check_timeout",
        'self._require_epoch(data.epoch, "timeout.epoch")',
        "pass",
        first=("liar:future_epoch+losses", "liar:future_epoch+crashes"),
    ),
)

_COLLECTING: Final = (
    _mutant(
        "votes_short_of_a_quorum",
        "Q1: a quorum of votes makes a QC",
        f"{_VOTES}VoteCollector._find_quorum",
        "self._committee.quorum_power",
        "self._committee.honest_power",
        f"{_VOTES}VoteCollector.finish",
        "self._committee.quorum_power",
        "self._committee.honest_power",
        first=("quiet",),
    ),
    _mutant(
        "timeouts_short_of_a_quorum",
        "Q2: a quorum of timeouts makes a TC",
        f"{_VOTES}TimeoutCollector.is_due",
        "self._committee.quorum_power",
        "self._committee.honest_power",
        f"{_VOTES}TimeoutCollector.finish",
        "self._committee.quorum_power",
        "self._committee.honest_power",
        first=("liar:silent",),
    ),
    _mutant(
        "acks_short_of_honest_power",
        "A1: acknowledgements of honest power make an availability certificate",
        "consensus.lane_acks:AckCollector.aggregate",
        "self._committee.power_of(acks) < self._committee.honest_power",
        "not acks",
        "consensus.lane_acks:AckCollector.on_aggregated",
        "self._committee.power_of(event.signers) < self._committee.honest_power",
        "not event.signers",
        first=("quiet",),
    ),
    _mutant(
        "results_short_of_a_quorum",
        "S1: a quorum of equal results makes a state certificate",
        "consensus.state_votes:StateVoteCollector.aggregate",
        "self._committee.quorum_power",
        "self._committee.honest_power",
        "consensus.state_votes:StateVoteCollector.on_aggregated",
        "self._committee.quorum_power",
        "self._committee.honest_power",
        first=("quiet",),
    ),
)

_CONVICTING: Final = (
    _mutant(
        "double_vote_unseen",
        "V5: two votes of a view are evidence",
        f"{_VOTES}VoteCollector.add",
        "if held.data != vote.data:",
        "if False:",
        first=("liar:double_vote", "liar:equivocating_leader_voting"),
    ),
    _mutant(
        "double_timeout_unseen",
        "V5: two timeouts of a view are evidence",
        f"{_VOTES}TimeoutCollector.add",
        "return held if held.data != timeout.data else None",
        "return None",
        first=("liar:conflicting_timeouts+losses", "liar:conflicting_timeouts+crashes"),
    ),
    _mutant(
        "double_proposal_unseen",
        "V5: two proposals of a view are evidence",
        "consensus.core:ConsensusCore._apply_proposal",
        "if seen.block_id != block_id:",
        "if False:",
        first=("liar:equivocating_leader_both", "liar:equivocating_leader"),
    ),
    _mutant(
        "double_result_unseen",
        "V5: two results of a height are evidence",
        "consensus.state_votes:StateVoteCollector.offer",
        "if first.header != header:",
        "if False:",
        first=("liar:double_state_vote",),
    ),
)

_LANES: Final = (
    _mutant(
        "ack_before_stored",
        "D1: what is acknowledged is durable",
        "consensus.lane_chain:Link.is_ready",
        "self.is_stored and self.is_checked",
        "self.is_checked",
        first=("quiet",),
    ),
    _mutant(
        "ack_before_checked",
        "D1: what is acknowledged was checked",
        "consensus.lane_chain:Link.is_ready",
        "self.is_stored and self.is_checked",
        "self.is_stored",
        first=("liar:garbage_bodies", "quiet"),
    ),
    _mutant(
        "lane_fork_unseen",
        "D2: two batches at one place are evidence",
        "consensus.lane_intake:BatchIntake._compare",
        "if other.header != header:",
        "if False:",
        first=("liar:forked_lane",),
    ),
    _mutant(
        "ack_above_a_fork",
        "D2: nothing is acknowledged from a fork on",
        "consensus.lane_chain:LaneChain.find_ackable",
        "if fork is None or fork > self.tip.sequence:",
        "if True:",
        first=("liar:certified_fork", "liar:forked_lane_split+crashes", "liar:forked_lane"),
    ),
    _mutant(
        "lane_without_parents",
        "D3: each batch names the one before",
        "consensus.lane_chain:LaneChain.apply_ready",
        "link.is_ready and link.signed_header.header.parent == self.tip.batch_id",
        "link.is_ready",
        first=("liar:forked_lane_split", "liar:forked_lane"),
    ),
)

_DELIVERING: Final = (
    _mutant(
        "delivered_twice",
        "E1: a lane is delivered from its cursor on",
        "consensus.lanes:Lanes.on_committed",
        "            chain.cursor.sequence,\n",
        "            max(chain.cursor.sequence - 1, 0),\n",
        first=("quiet",),
    ),
    _mutant(
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
    _mutant(
        "expired_executes",
        "E3: what has expired is refused",
        "mempool.ledger:HeaderLedger.check",
        "if height >= header.expiry_height:",
        "if False:",
        first=("losses", "liar:silent"),
    ),
    _mutant(
        "evidence_unverified",
        "E4: evidence convicts if both signatures hold",
        "node.offences:Judge.on_verified",
        "all(results[2 * number : 2 * number + 2])",
        "True",
        first=("liar:false_accuser",),
    ),
    _mutant(
        "checkpoint_of_another_height",
        "S2: a result is certified for the height that was executed",
        "node.execution:make_checkpoint_header",
        "height=block.height,",
        "height=block.height + 1,",
        first=("quiet",),
    ),
)

MUTANTS: Final[tuple[Mutant, ...]] = (
    *_VOTING,
    *_TIMING_OUT,
    *_PROPOSING,
    *_COMMITTING,
    *_PERSISTING,
    *_CERTIFYING,
    *_COLLECTING,
    *_CONVICTING,
    *_LANES,
    *_DELIVERING,
)
