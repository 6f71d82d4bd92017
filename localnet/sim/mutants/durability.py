"""What precedes a signature on disk, and what a restart makes of it."""

from typing import Final

from localnet.sim.mutants.plant import Mutant, make_mutant

_SAFETY: Final = "consensus.safety:"
_VOTER: Final = "consensus.voter:Voter."

_UNKEPT: Final = "does not remember|does not keep|not durable|none of its records explains"

PERSISTING: Final[tuple[Mutant, ...]] = (
    *(
        make_mutant(
            f"{kind}_forgets_{what}",
            f"P1: a {kind} is preceded by its {what} on disk",
            rf"(SigningRules|SignedOnce|SignatureRequests): .*({_UNKEPT})",
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
        rf"(SigningRules|SignatureRequests): .*({_UNKEPT})",
        "consensus.state_signer:StateVoteSigner.vote",
        "(Put(STATE_VOTE_TABLE, compute_key(header.height), encode(header)),)",
        "()",
        first=("quiet",),
    ),
    make_mutant(
        "vote_leaves_at_once",
        "P1: a vote waits for its record",
        r"SignedOnce: .* sent, not durable",
        f"{_VOTER}send_signed",
        "self._out.send(collectors, Vote(data, self._me, signature), decision.after)",
        "self._out.send(collectors, Vote(data, self._me, signature))",
        first=("quiet",),
    ),
    make_mutant(
        "timeout_leaves_at_once",
        "P1: a timeout waits for its record",
        r"SignedOnce: .* sent, not durable",
        f"{_VOTER}send_signed",
        "self._out.send(self._everyone, timeout, decision.after)",
        "self._out.send(self._everyone, timeout)",
        first=("liar:silent",),
    ),
    make_mutant(
        "proposal_leaves_at_once",
        "P1: a proposal waits for its record",
        r"SignedOnce: .* sent, not durable",
        f"{_VOTER}send_signed",
        "self._out.send(self._others, proposal, decision.after)",
        "self._out.send(self._others, proposal)",
        first=("quiet",),
    ),
    make_mutant(
        "state_vote_leaves_at_once",
        "P1: a state vote waits for its record",
        r"SigningRules: .* signs the state .* not durable",
        "consensus.state_signer:StateVoteSigner.on_signed",
        "Send(self._everybody, vote, own.after)",
        "Send(self._everybody, vote)",
        first=("quiet",),
    ),
    make_mutant(
        "timeout_repeated_at_once",
        "P1: so does a timeout that is repeated",
        r"SignedOnce: .* sent, not durable",
        f"{_VOTER}repeat_timeout",
        "sent.timeout, sent.after",
        "sent.timeout",
        first=("hasty_clocks",),
    ),
    make_mutant(
        "state_vote_repeated_at_once",
        "P1: so does a state vote that is repeated",
        r"SigningRules: .* signs the state .* not durable",
        "consensus.state_signer:StateVoteSigner.on_signed",
        "self._said[own.header.height] = send",
        "self._said[own.header.height] = Send(self._everybody, vote)",
        first=("hasty_clocks",),
    ),
    make_mutant(
        "first_record_skipped",
        "P1: the first safety record precedes everything else",
        r"Restarts: .* without its safety record",
        "consensus.core:ConsensusCore.start",
        "self._out.persist(Store.SAFETY, (make_state_put(self._voter.state),))",
        "pass",
        "consensus.recovery:recover",
        "if state_bytes is None and archived_tip is not None:",
        "if False:",
        first=("latecomers",),
    ),
    make_mutant(
        "pruned_too_early",
        "P3: what is dropped from the safety store is in the archive",
        r"Restarts: .* drops blocks below",
        f"{_SAFETY}make_prune_deletes",
        "Delete(BLOCK_TABLE, compute_key(below_height))",
        "Delete(BLOCK_TABLE, compute_key(below_height + 1_000))",
        first=("long",),
    ),
    make_mutant(
        "evidence_unkept",
        "P1: evidence that is proposed is in the archive",
        r"SigningRules: .* evidence that it does not keep",
        "node.offences:PendingEvidence.add",
        "return Put(EVIDENCE_TABLE, compute_key(key[0]) + key[1].encode(), encoded)",
        "return None",
        first=("liar:double_vote",),
    ),
    make_mutant(
        "tip_unarchived",
        "R1: the archive says where it ends",
        r"Restarts: .* commits \d+ after",
        "consensus.chain:Chain._commit",
        "puts.append(Put(ARCHIVE_TIP_TABLE, ARCHIVE_TIP_KEY, encode(make_tip(node, qc))))",
        "pass",
        first=("restarts",),
    ),
    make_mutant(
        "block_unarchived",
        "R1: the archive holds each committed block",
        r"Finality: |Restarts: ",
        "consensus.chain:Chain._commit",
        "puts.append(Put(ARCHIVE_BLOCK_TABLE, key, encode(block)))",
        "pass",
        first=("restarts",),
    ),
    make_mutant(
        "certificate_unarchived",
        "R1: the archive holds the QC of each committed block",
        r"Finality: ",
        "consensus.chain:Chain._commit",
        "puts.append(Put(ARCHIVE_COMMIT_TABLE, key, encode(certificate)))",
        "pass",
        first=("quiet",),
    ),
)

RESTARTING: Final[tuple[Mutant, ...]] = (
    make_mutant(
        "restart_without_memory",
        "R1: a restarted member goes on from its safety record, and knows its votes again (R5)",
        r"(SigningRules|SignedOnce): ",
        "consensus.recovery:recover",
        "if state_bytes is None\n            else decode(SafetyState, state_bytes)",
        "if True\n            else decode(SafetyState, state_bytes)",
        "node.recovery:_validate_memory",
        "if is_member_set(qc.signers, me) and",
        "if False and",
        "consensus.core:ConsensusCore._is_forgotten_vote",
        "return is_signer and",
        "return False and is_signer and",
        first=("restarts", "crashes"),
    ),
    make_mutant(
        "start_without_memory",
        "R2: an archive without a safety record is no start",
        r"Restarts: .* without its safety record",
        "consensus.recovery:recover",
        "if state_bytes is None and archived_tip is not None:",
        "if False:",
        "node.recovery:_validate_memory",
        "if is_member_set(qc.signers, me) and",
        "if False and",
        first=("amnesia",),
    ),
    *(
        make_mutant(
            f"{what}_not_repeated",
            f"R3: a {what} is said again after a restart",
            rf"Restarts: .* never repeats .*{what.capitalize()}",
            f"{_VOTER}resume",
            old,
            new,
            first=("restarts", "crashes", "blackouts"),
        )
        for what, old, new in (
            ("vote", "self._sign(vote, ())", "pass"),
            ("timeout", "self._sign(timeout, ())", "pass"),
            ("proposal", "self._sign(proposed, ())", "pass"),
        )
    ),
)
