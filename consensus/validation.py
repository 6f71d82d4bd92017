"""Stateless checks: may this message be looked at, and which signatures must verify first?

Every rule has a stable code. A broken rule raises `ValidationError` before any state is touched;
what remains is a list of `Check`s, the signatures that must hold. A certificate in the cache of
verified ones needs no check, and the genesis certificate is accepted by equality alone (G1).

Epochs are compared before anything is computed from them: an epoch that is not the committee's
own is refused wherever it stands in a message, so a made-up number drives no work.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from committee.committee import Committee
from committee.schedule import LeaderSchedule
from consensus.certificates import Certificate, CertificateCache
from consensus.evidence import EvidenceError, decode_evidence, validate_evidence
from consensus.messages import (
    Advance,
    CommittedResponse,
    Proposal,
    ShownProposal,
    Timeout,
    Vote,
    proposal_signing_bytes,
)
from consensus.types import (
    GENESIS_VIEW,
    QC,
    TC,
    AvailabilityCertificate,
    Block,
    StateCertificate,
    TimeoutData,
)
from crypto.bitmap import BitmapError, decode_bitmap
from crypto.scheme import Claim

STATE_CERTIFICATE_DEPTH_MIN: Final = 2
"""A result can be certified only after its block committed, which took a certified child."""


class ValidationError(Exception):
    """A message breaks a rule: its sender's fault."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


class Check(NamedTuple):
    """Signatures that must all verify."""

    certificate: Certificate | None
    """What they make valid; None for a signature that only this message needs."""
    claims: tuple[Claim, ...]


def _require(holds: bool, code: str, detail: str = "") -> None:
    if not holds:
        raise ValidationError(code, detail)


class Validator:
    """The checks of one epoch."""

    def __init__(
        self,
        chain_id: bytes,
        committee: Committee,
        schedule: LeaderSchedule,
        genesis: QC,
        certificates: CertificateCache,
    ) -> None:
        self._chain_id = chain_id
        self._committee = committee
        self._schedule = schedule
        self._genesis = genesis
        self._certificates = certificates

    # ---- certificates ------------------------------------------------------------------------

    def check_qc(self, qc: QC) -> list[Check]:
        """Q power voted for the block, or it is the exact genesis certificate (G1)."""
        if qc == self._genesis or qc in self._certificates:
            return []
        self._require_epoch(qc.data.epoch, "qc.epoch")
        _require(qc.view > GENESIS_VIEW, "qc.view_zero")
        _require(qc.height >= 1, "qc.height_zero")
        signers = self._decode_signers(qc.signers, "qc.signers")
        self._require_power(signers, self._committee.quorum_power, "qc.power")
        return [self._make_check(qc, signers, qc.data.signing_bytes(self._chain_id), qc.signature)]

    def check_tc(self, tc: TC) -> list[Check]:
        """Q power gave the view up; its maxima are what its groups signed (Q2)."""
        if tc in self._certificates:
            # Known for its groups alone: the QC inside answers for itself.
            return self.check_qc(tc.high_qc)
        self._require_epoch(tc.epoch, "tc.epoch")
        reported = [(group.high_qc_view, group.tip_view) for group in tc.groups]
        _require(
            all(low < high for low, high in pairwise(reported)),
            "tc.groups_order",
        )
        claims: list[Claim] = []
        seen: set[int] = set()
        for group in tc.groups:
            data = TimeoutData(tc.epoch, tc.view, group.high_qc_view, group.tip_view)
            self._require_timeout_views(data, "tc")
            signers = self._decode_signers(group.signers, "tc.signers")
            _require(bool(signers), "tc.group_empty")
            _require(seen.isdisjoint(signers), "tc.signers_overlap")
            seen.update(signers)
            message = data.signing_bytes(self._chain_id)
            claims.append(Claim(_collect_keys(self._committee, signers), message, group.signature))
        self._require_power(sorted(seen), self._committee.quorum_power, "tc.power")
        _require(tc.high_qc.view == tc.groups[-1].high_qc_view, "tc.high_qc_not_maximum")
        return [*self.check_qc(tc.high_qc), Check(tc, tuple(claims))]

    def check_availability(self, certificate: AvailabilityCertificate) -> list[Check]:
        """H power holds the lane prefix."""
        if certificate in self._certificates:
            return []
        claim = compute_availability_claim(self._chain_id, self._committee, certificate)
        return [Check(certificate, (claim,))]

    def check_state(self, certificate: StateCertificate) -> list[Check]:
        """Q power executed to the same header."""
        if certificate in self._certificates:
            return []
        self._require_epoch(certificate.header.epoch, "state.epoch")
        signers = self._decode_signers(certificate.signers, "state.signers")
        self._require_power(signers, self._committee.quorum_power, "state.power")
        message = certificate.header.signing_bytes(self._chain_id)
        return [self._make_check(certificate, signers, message, certificate.signature)]

    # ---- messages ----------------------------------------------------------------------------

    def check_vote(self, sender: int, vote: Vote) -> None:
        """Its signature is verified in the aggregate, so it must come from its author."""
        _require(sender == vote.author, "vote.author")
        self._require_epoch(vote.data.epoch, "vote.epoch")
        _require(vote.data.view > GENESIS_VIEW, "vote.view_zero")
        _require(vote.data.height >= 1, "vote.height_zero")

    def check_timeout(self, sender: int, timeout: Timeout) -> list[Check]:
        """Its certificates prove that its author may be in that view (T3)."""
        data, tc = timeout.data, timeout.last_tc
        _require(sender == timeout.author, "timeout.author")
        self._require_epoch(data.epoch, "timeout.epoch")
        self._require_timeout_views(data, "timeout")
        _require(timeout.high_qc.view == data.high_qc_view, "timeout.high_qc_mismatch")
        if timeout.high_qc.view + 1 == data.view:
            _require(tc is None, "timeout.tc_needless")
            return self.check_qc(timeout.high_qc)
        if tc is None or tc.view + 1 != data.view:
            raise ValidationError("timeout.view_unjustified")
        _require(data.high_qc_view >= tc.high_qc.view, "timeout.high_qc_older_than_tc")
        return [*self.check_qc(timeout.high_qc), *self.check_tc(tc)]

    def check_advance(self, advance: Advance) -> list[Check]:
        """One certificate, or two."""
        checks = self.check_qc(advance.qc)
        return checks if advance.tc is None else [*checks, *self.check_tc(advance.tc)]

    def check_proposal(self, sender: int, proposal: Proposal) -> list[Check]:
        """The view's leader proposes a block of its own, justified by its certificates (B1)."""
        block, author = proposal.block, proposal.author
        _require(sender == author, "proposal.author")
        _require(proposal.view == block.view, "proposal.view_mismatch")
        self._require_epoch(block.epoch, "proposal.epoch")
        _require(author == self._schedule.leader(proposal.view), "proposal.not_leader")
        _require(block.author == author, "proposal.block_author")
        checks = self.check_block(block)
        block_id = block.block_id(self._chain_id)
        shown = ShownProposal(proposal.view, block_id, proposal.signature)
        return [*checks, self.check_shown(shown)]

    def check_shown(self, shown: ShownProposal) -> Check:
        """The leader of its view signed it."""
        leader, epoch = self._schedule.leader(shown.view), self._committee.epoch
        key = self._committee.members[leader].consensus_key
        signed = proposal_signing_bytes(self._chain_id, epoch, shown.view, shown.block_id)
        return Check(None, (Claim((key,), signed, shown.signature),))

    def check_block(self, block: Block) -> list[Check]:
        """Everything about a block that neither its parent nor the clock decides."""
        validate_links(block)
        _require(block.view > block.qc.view, "block.view_not_above_qc")
        checks = self.check_qc(block.qc)
        if block.view == block.qc.view + 1:
            _require(block.tc is None, "block.tc_needless")
        else:
            if block.tc is None or block.tc.view + 1 != block.view:
                raise ValidationError("block.view_unjustified")
            _require(block.qc.view >= block.tc.high_qc.view, "block.qc_older_than_tc")
            checks += self.check_tc(block.tc)
        authors = [certificate.data.author for certificate in block.lanes]
        _require(authors == sorted(set(authors)), "block.lanes_order")
        for certificate in block.lanes:
            checks += self.check_availability(certificate)
        # L1 messages and openings have a place in the format but no rules yet that admit any.
        _require(not block.inbox and not block.openings, "block.field_unused")
        self._check_evidence(block.evidence)
        state = block.state_certificate
        if state is not None:
            depth = block.height - state.header.height
            _require(depth >= STATE_CERTIFICATE_DEPTH_MIN, "block.state_too_new")
            checks += self.check_state(state)
        return checks

    def check_committed_response(self, response: CommittedResponse) -> list[Check]:
        """The proof certifies the last block, and through the chain of ids and the votes of its
        signers every certificate inside (S2)."""
        if response.proof is None:
            _require(not response.blocks, "sync.proof_missing")
            return []
        _require(bool(response.blocks), "sync.blocks_missing")
        return self.check_qc(response.proof)

    # ---- parts -------------------------------------------------------------------------------

    def _check_evidence(self, evidence: Sequence[bytes]) -> None:
        _require(len(set(evidence)) == len(evidence), "block.evidence_repeated")
        for encoded in evidence:
            try:
                validate_evidence(decode_evidence(encoded), self._committee)
            except EvidenceError as error:
                raise ValidationError("block.evidence_invalid", str(error)) from error

    def _require_epoch(self, epoch: int, code: str) -> None:
        _require(epoch == self._committee.epoch, code)

    def _require_timeout_views(self, data: TimeoutData, kind: str) -> None:
        _require(data.high_qc_view < data.view, f"{kind}.high_qc_view")
        tip = data.tip_view
        _require(tip == 0 or data.high_qc_view < tip <= data.view, f"{kind}.tip_view")

    def _require_power(self, signers: Sequence[int], needed_power: int, code: str) -> None:
        _require(self._committee.power_of(signers) >= needed_power, code)

    def _decode_signers(self, bitmap: bytes, code: str) -> tuple[int, ...]:
        return _decode_signers(self._committee, bitmap, code)

    def _make_check(
        self, certificate: Certificate, signers: Sequence[int], message: bytes, signature: bytes
    ) -> Check:
        return Check(
            certificate, (Claim(_collect_keys(self._committee, signers), message, signature),)
        )


def compute_availability_claim(
    chain_id: bytes, committee: Committee, certificate: AvailabilityCertificate
) -> Claim:
    """The signature that makes an availability certificate true: by H power of this committee.

    Raises `ValidationError` if no signature could. Lanes and blocks judge by this one rule.
    """
    data = certificate.data
    _require(data.epoch == committee.epoch, "availability.epoch")
    _require(data.author < len(committee), "availability.author")
    _require(data.sequence >= 1, "availability.sequence_zero")
    signers = _decode_signers(committee, certificate.signers, "availability.signers")
    _require(committee.power_of(signers) >= committee.honest_power, "availability.power")
    keys = _collect_keys(committee, signers)
    return Claim(keys, data.signing_bytes(chain_id), certificate.signature)


def _decode_signers(committee: Committee, bitmap: bytes, code: str) -> tuple[int, ...]:
    try:
        return decode_bitmap(bitmap, len(committee))
    except BitmapError as error:
        raise ValidationError(code, str(error)) from error


def _collect_keys(committee: Committee, signers: Sequence[int]) -> tuple[bytes, ...]:
    return tuple(committee.members[index].consensus_key for index in signers)


def validate_links(block: Block) -> None:
    """The block names one and the same parent by id, certificate and height (B1)."""
    _require(block.parent_id == block.qc.block_id, "block.parent_mismatch")
    _require(block.height == block.qc.height + 1, "block.height")
