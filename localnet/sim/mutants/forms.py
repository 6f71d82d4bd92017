"""What every message must look like: each check that refuses one by itself."""

from typing import Final

from localnet.sim.mutants.plant import Mutant, make_mutant

_CHECKS: Final = "consensus.validation:Validator."
_CLAIM: Final = "consensus.validation:compute_availability_claim"
_LINKS: Final = "consensus.validation:validate_links"


def _form(code: str, target: str, old: str, new: str = "pass") -> Mutant:
    """The check of one code, which the liar that breaks rules of form alone must miss."""
    name = code.replace(".", "_") + "_unchecked"
    # Where the next check refuses the message under another code, nobody misses this one; where
    # none does, the node goes on to the signatures, or takes the message for good.
    shown_by = rf"Forms: .*{code}|Certificates: |SigningRules: |Justice: .* proves nothing"
    return make_mutant(
        name, f"{code}: its check", shown_by, target, old, new, first=("liar:malformed",)
    )


def _required(condition: str, code: str, target: str) -> Mutant:
    return _form(code, target, f'_require({condition}, "{code}")')


def _epoch(number: str, code: str, method: str) -> Mutant:
    return _form(code, f"{_CHECKS}{method}", f'self._require_epoch({number}, "{code}")')


FORMS: Final[tuple[Mutant, ...]] = (
    _epoch("qc.data.epoch", "qc.epoch", "check_qc"),
    _required("qc.view > GENESIS_VIEW", "qc.view_zero", f"{_CHECKS}check_qc"),
    _required("qc.height >= 1", "qc.height_zero", f"{_CHECKS}check_qc"),
    _epoch("tc.epoch", "tc.epoch", "check_tc"),
    _required("bool(signers)", "tc.group_empty", f"{_CHECKS}check_tc"),
    *(
        make_mutant(
            f"{kind}_{field}_unchecked",
            f"{kind}.{field}: its check",
            rf"Forms: .*{kind}\.{field}|Certificates: |SigningRules: ",
            f"{_CHECKS}_require_timeout_views",
            old,
            f'_require({holds} or kind == "{kind}", f"{{kind}}.{field}")',
            first=("liar:malformed",),
        )
        for kind in ("tc", "timeout")
        for field, holds, old in (
            (
                "high_qc_view",
                "data.high_qc_view < data.view",
                '_require(data.high_qc_view < data.view, f"{kind}.high_qc_view")',
            ),
            (
                "tip_view",
                "tip == 0 or data.high_qc_view < tip <= data.view",
                '_require(tip == 0 or data.high_qc_view < tip <= data.view, f"{kind}.tip_view")',
            ),
        )
    ),
    _required("data.epoch == committee.epoch", "availability.epoch", _CLAIM),
    _required("data.author < len(committee)", "availability.author", _CLAIM),
    _required("data.sequence >= 1", "availability.sequence_zero", _CLAIM),
    _epoch("certificate.header.epoch", "state.epoch", "check_state"),
    _epoch("vote.data.epoch", "vote.epoch", "check_vote"),
    _required("vote.data.view > GENESIS_VIEW", "vote.view_zero", f"{_CHECKS}check_vote"),
    _required("vote.data.height >= 1", "vote.height_zero", f"{_CHECKS}check_vote"),
    _required("sender == timeout.author", "timeout.author", f"{_CHECKS}check_timeout"),
    _required(
        "timeout.high_qc.view == data.high_qc_view",
        "timeout.high_qc_mismatch",
        f"{_CHECKS}check_timeout",
    ),
    _required("tc is None", "timeout.tc_needless", f"{_CHECKS}check_timeout"),
    _form(
        "timeout.view_unjustified",
        f"{_CHECKS}check_timeout",
        "if tc is None or tc.view + 1 != data.view:",
        "if tc is None:",
    ),
    _required(
        "data.high_qc_view >= tc.high_qc.view",
        "timeout.high_qc_older_than_tc",
        f"{_CHECKS}check_timeout",
    ),
    _required("sender == author", "proposal.author", f"{_CHECKS}check_proposal"),
    _required("proposal.view == block.view", "proposal.view_mismatch", f"{_CHECKS}check_proposal"),
    _required("block.author == author", "proposal.block_author", f"{_CHECKS}check_proposal"),
    _required("block.parent_id == block.qc.block_id", "block.parent_mismatch", _LINKS),
    make_mutant(
        "block_height_unchecked",
        "block.height: both its checks, against the certificate and against the parent",
        r"Certificates: .* height|Forms: .*block\.height",
        _LINKS,
        '_require(block.height == block.qc.height + 1, "block.height")',
        "pass",
        "consensus.payload:validate_child",
        "if block.height != parent.height + 1:",
        "if False:",
        first=("liar:malformed",),
    ),
    _required("block.view > block.qc.view", "block.view_not_above_qc", f"{_CHECKS}check_block"),
    _required("block.tc is None", "block.tc_needless", f"{_CHECKS}check_block"),
    _required("authors == sorted(set(authors))", "block.lanes_order", f"{_CHECKS}check_block"),
    _required(
        "not block.inbox and not block.openings", "block.field_unused", f"{_CHECKS}check_block"
    ),
    _required(
        "depth >= STATE_CERTIFICATE_DEPTH_MIN", "block.state_too_new", f"{_CHECKS}check_block"
    ),
    _required(
        "len(set(evidence)) == len(evidence)",
        "block.evidence_repeated",
        f"{_CHECKS}_check_evidence",
    ),
    _form(
        "block.evidence_invalid",
        f"{_CHECKS}_check_evidence",
        "validate_evidence(decode_evidence(encoded), self._committee)",
    ),
    make_mutant(
        "sync_blocks_missing_unchecked",
        "sync.blocks_missing: its check",
        r"invariant of consensus\.sync: IndexError",
        f"{_CHECKS}check_committed_response",
        '_require(bool(response.blocks), "sync.blocks_missing")',
        "pass",
        first=("liar:malformed+absence",),
        stops="a proof of nothing would end the node that asked, whoever sends it",
    ),
    make_mutant(
        "sync_ids_trusted",
        "sync.chain_broken: its check",
        r"Finality: ",
        "consensus.sync:BlockSync._validate_chain",
        "if block.block_id(self._chain_id) != block_id:",
        "if False:",
        first=("liar:garbage_blocks+deafness",),
    ),
)
