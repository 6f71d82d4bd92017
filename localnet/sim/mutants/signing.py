"""What may be signed, and what is final: each conjunct of the rules of voting, giving up,
proposing and committing."""

from typing import Final

from localnet.sim.mutants.plant import Mutant, make_mutant

_SAFETY: Final = "consensus.safety:"
_CHECKS: Final = "consensus.validation:Validator."

# The end of a node whose own parts disagree is not what has to be shown.
_GAP_FREE: Final = "node.delivery:Delivery.add_block"
_RISES: Final = (
    'assert block.height == expected + 1, "committed blocks arrive gap-free in height order"'
)
_SIGNED: Final = "self.check_shown(shown)"
_SIGNED_ANYHOW: Final = (
    "Check(None, (Claim((self._committee.members[author].consensus_key,), proposal_signing_bytes("
    "self._chain_id, block.epoch, proposal.view, block_id), proposal.signature),))"
)
# The signature is expected of the view's leader in the own epoch, which asks both a second time.
_TAKEN: Final = "if block.height != expected + 1:\n        return"
_LANES_RISE: Final = "consensus.lane_chain:LaneChain.apply_commit"
_ABOVE: Final = (
    'assert cursor.sequence > self.cursor.sequence, "a committed tip is above the cursor"'
)
_SKIPPED: Final = "if cursor.sequence <= self.cursor.sequence:\n        return"

VOTING: Final[tuple[Mutant, ...]] = (
    make_mutant(
        "vote_in_another_epoch",
        "V1: a vote is of the epoch of the state",
        r"Certificates: .* epoch 1",
        f"{_SAFETY}is_safe_to_vote",
        "block.epoch == state.epoch\n        and ",
        "",
        f"{_CHECKS}check_proposal",
        'self._require_epoch(block.epoch, "proposal.epoch")',
        "pass",
        f"{_CHECKS}check_proposal",
        _SIGNED,
        _SIGNED_ANYHOW,
        first=("liar:future_epoch",),
    ),
    make_mutant(
        "vote_again",
        "V1: a vote is above the last voted view",
        r"SigningRules: .* votes in view \d+ after view",
        f"{_SAFETY}is_safe_to_vote",
        "        and view > state.last_voted_view\n",
        "",
        first=("quiet",),
    ),
    make_mutant(
        "view_without_tc",
        "V2: the current view is one above the newest QC or TC",
        r"liveness: ",
        f"{_SAFETY}compute_view",
        "max(state.high_qc.view, state.high_tc.view if state.high_tc else 0)",
        "state.high_qc.view",
        first=("liar:silent",),
    ),
    make_mutant(
        "vote_for_unjustified",
        "V3: without a TC the QC is of the view before (block.view_unjustified)",
        r"Certificates: .* views are left out without a TC",
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
        r"Certificates: .* the TC of view",
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
        r"Certificates: .* older than what the TC names",
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
        r"SigningRules: .* ahead of its clock",
        "consensus.core:ConsensusCore._maybe_vote",
        "if timely_at_ms <= self._now_ms:",
        "if True:",
        first=("clocks",),
    ),
    make_mutant(
        "vote_for_the_past",
        "V4: no vote for a block far behind the clock",
        r"SigningRules: .* behind its clock",
        "consensus.core:ConsensusCore._find_votable",
        "self._now_ms - node.time_ms <= self._config.block_age_max_ms",
        "True",
        first=("far_clocks",),
    ),
)

TIMING_OUT: Final[tuple[Mutant, ...]] = (
    *(
        make_mutant(
            f"{kind}_replaces_newer",
            f"V2: of two {kind.upper()}s the newer one is remembered",
            r"invariant of consensus\.pacemaker: .* views only rise",
            f"{_SAFETY}apply_{kind}",
            old,
            new,
            first=("liar:replaying+losses", "liar:replaying+delays"),
            stops="a node that would go back to a view ends, and last_voted_view (V1) and the last"
            " timeout (T2) forbid every signature there: with both off nothing wrong is signed",
        )
        for kind, old, new in (
            ("qc", "if qc.view > state.high_qc.view else state", "if qc.view > 0 else state"),
            ("tc", "state.high_tc is not None and tc.view <= state.high_tc.view", "False"),
        )
    ),
    make_mutant(
        "lock_stays",
        "T1: a vote raises the lock to the QC in its block",
        r"SigningRules: .* remembers the lock",
        f"{_SAFETY}apply_vote",
        "max(state.one_chain_view, block.qc.view)",
        "state.one_chain_view",
        first=("quiet",),
    ),
    make_mutant(
        "timeout_below_the_lock",
        "T1: no timeout below the lock: a vote takes the QC in its block, and so does a proposal",
        r"SigningRules: .* remembers the lock",
        f"{_SAFETY}apply_vote",
        "apply_qc(state, block.qc)",
        "state",
        f"{_SAFETY}is_safe_to_time_out",
        " and state.high_qc.view >= state.one_chain_view",
        "",
        "consensus.core:ConsensusCore._apply_proposal",
        "self._on_qc(block.qc)",
        "pass",
        first=("losses", "crashes"),
    ),
    make_mutant(
        "timeout_hides_the_tip",
        "T1: a timeout names the newest block voted for",
        r"SigningRules: .* with tip 0",
        f"{_SAFETY}compute_tip_view",
        "return vote.view if vote is not None and vote.view > state.high_qc.view else 0",
        "return 0",
        first=("losses",),
    ),
    make_mutant(
        "timeout_shows_an_old_tip",
        "T1: a vote at or below the newest certificate is no tip",
        r"SigningRules: .* with tip \d+, voted in 0",
        f"{_SAFETY}compute_tip_view",
        " and vote.view > state.high_qc.view",
        "",
        first=("liar:silent",),
    ),
    make_mutant(
        "needless_tc",
        "V2: a TC is shown only where the QC does not admit",
        r"Innocence: .* tc_needless|Certificates: .* a TC that says nothing",
        f"{_SAFETY}compute_entry_tc",
        "state.high_qc.view + 1 == compute_view(state)",
        "False",
        first=("liar:silent",),
    ),
    make_mutant(
        "vote_after_timeout",
        "T2: no vote in a view that was given up",
        r"SignedOnce: .* voted after timing out|SigningRules: .* after giving view",
        f"{_SAFETY}apply_timeout",
        "        last_voted_view=max(state.last_voted_view, timeout.data.view),\n",
        "",
        first=("liar:late_leader", "losses"),
    ),
    make_mutant(
        "timeout_twice",
        "T2: one timeout a view",
        r"SigningRules: .* gives view \d+ up after view",
        f"{_SAFETY}is_timed_out",
        "timeout is not None and timeout.data.view >= compute_view(state)",
        "False",
        first=("liar:silent",),
    ),
)

PROPOSING: Final[tuple[Mutant, ...]] = (
    make_mutant(
        "propose_again",
        "L1: one proposal a view, by the rule and by the disk that keeps the first",
        r"SignatureRequests: .* two contents signed for proposal",
        f"{_SAFETY}is_safe_to_propose",
        "        and view > state.last_proposed_view\n",
        "",
        # The simulator's disk would stop the node first: the mutant silences that, too.
        "localnet.sim.disk:Disk.apply",
        "assert held == value",
        "assert True or held",
        first=("quiet", "generated"),
    ),
    make_mutant(
        "propose_after_timeout",
        "L1: no proposal in a view that was given up",
        r"SigningRules: .* which it has left",
        f"{_SAFETY}is_safe_to_propose",
        "        and view > state.last_voted_view\n",
        "",
        first=("clocks",),
    ),
    make_mutant(
        "anybody_proposes",
        "B1: the view's leader proposes",
        r"Certificates: .* leads not",
        f"{_CHECKS}check_proposal",
        '_require(author == self._schedule.leader(proposal.view), "proposal.not_leader")',
        "pass",
        f"{_CHECKS}check_proposal",
        _SIGNED,
        _SIGNED_ANYHOW,
        first=("liar:usurper",),
    ),
    make_mutant(
        "any_parent",
        "B1: the certificate in a block is its parent's, and so is the height",
        r"Certificates: .* its QC is for another parent",
        "consensus.validation:validate_links",
        '_require(block.parent_id == block.qc.block_id, "block.parent_mismatch")',
        "pass",
        "consensus.validation:validate_links",
        '_require(block.height == block.qc.height + 1, "block.height")',
        "pass",
        first=("liar:wrong_uncle", "liar:wrong_parent"),
    ),
)

COMMITTING: Final[tuple[Mutant, ...]] = (
    make_mutant(
        "fast_hotstuff",
        "C1: the two certificates are of consecutive views (the flaw of Fast-HotStuff)",
        r"Finality: .* nobody can have certified",
        "consensus.chain:Chain._maybe_commit",
        " or qc.view != node.block.qc.view + 1",
        "",
    ),
    make_mutant(
        "commit_on_one_certificate",
        "C1: a block is committed by its child's certificate, not by its own",
        r"Finality: .* nobody can have certified",
        "consensus.chain:Chain._maybe_commit",
        "self._commit(parent, node.block.qc)",
        "self._commit(node, qc)",
        first=("quiet",),
    ),
    make_mutant(
        "commit_newest_first",
        "C2: ancestors are committed oldest first",
        r"Finality: .* not oldest first, without gaps",
        "consensus.block_tree:BlockTree.commit",
        "chain = list(self.ancestors(node))[::-1]",
        "chain = list(self.ancestors(node))",
        _GAP_FREE,
        _RISES,
        _TAKEN,
        _LANES_RISE,
        _ABOVE,
        _SKIPPED,
        first=("losses", "liar:silent"),
    ),
    make_mutant(
        "commit_without_ancestors",
        "C2: a commit covers all ancestors",
        r"Finality: .* not oldest first, without gaps|Restarts: .* commits \d+ after",
        "consensus.block_tree:BlockTree.commit",
        "chain = list(self.ancestors(node))[::-1]",
        "chain = [node]",
        _GAP_FREE,
        _RISES,
        _TAKEN,
        _LANES_RISE,
        _ABOVE,
        _SKIPPED,
        first=("losses", "liar:silent"),
    ),
)
