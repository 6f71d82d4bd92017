"""E1: who signs two things where one is allowed is convicted by every honest member that can know.

Two contents meet here in one of three ways: a collector holds two of a member's votes or timeouts,
two proposals of a view came to this node, or another member shows the proposal that it saw. What
may prove something is verified beside the messages of whoever brought it, so that no flood keeps
it out.
"""

from typing import Final

from committee.committee import Committee
from committee.schedule import LeaderSchedule
from consensus.effects import EvidenceFound
from consensus.evidence import (
    DoubleProposal,
    DoubleTimeout,
    DoubleVote,
    compute_evidence_claims,
    make_double_proposal,
)
from consensus.intake import Intake
from consensus.messages import Message, ShownProposal
from consensus.outbox import Outbox
from consensus.pacemaker import Pacemaker
from consensus.proposals import PROPOSAL_VIEWS_BEHIND_MAX, Proposals
from consensus.types import QC
from consensus.validation import Check, Validator
from consensus.votes import VIEW_AHEAD_MAX
from crypto.bitmap import decode_bitmap
from crypto.codec import encode
from crypto.scheme import Claim

Suspicion = DoubleVote | DoubleTimeout | DoubleProposal
Subject = Message | Suspicion
"""What may wait for its signatures."""

SUSPICIONS_MAX_PER_MEMBER: Final = 4
"""Under verification that came from one member: one pair of each kind and one proposal that it
shows, apart from what of its messages waits."""


class Accuser:
    """Collects what contradicts itself, until one such pair convicted its author."""

    def __init__(
        self,
        chain_id: bytes,
        committee: Committee,
        me: int | None,
        schedule: LeaderSchedule,
        validator: Validator,
        pacemaker: Pacemaker,
        proposals: Proposals,
        intake: Intake[Subject],
        out: Outbox,
    ) -> None:
        """All but the first three are the core's own parts, which it goes on using."""
        self._chain_id = chain_id
        self._committee = committee
        self._me = me
        self._schedule = schedule
        self._validator = validator
        self._pacemaker = pacemaker
        self._proposals = proposals
        self._intake = intake
        self._out = out
        self._convicted: set[tuple[type, int]] = set()
        self._suspected: dict[tuple[type, int], Suspicion | ShownProposal] = {}
        # What is under verification, by its kind and from whom it, or its second half, came.

    def suspect(self, suspicion: Suspicion, source: int) -> None:
        """Two contents compete, one of them from `source`: verify both signatures, until one such
        pair convicted. While one waits, another adds nothing: either it convicts as well, or a
        signature is bad and its source is banned."""
        if not self.is_convicted(type(suspicion), suspicion.offender):
            claims = compute_evidence_claims(suspicion, self._committee, self._chain_id)
            self._verify_apart(source, suspicion, claims)

    def note_verified(self, source: int, subject: Subject) -> None:
        """Its verification is over, whatever came of it."""
        self._suspected.pop((type(subject), source), None)

    def is_convicted(self, kind: type[Suspicion], offender: int) -> bool:
        """Did this node find evidence of this kind against it?"""
        return (kind, offender) in self._convicted

    def convict(self, evidence: Suspicion) -> None:
        """Both signatures hold."""
        key = (type(evidence), evidence.offender)
        if key not in self._convicted:
            self._convicted.add(key)
            self._out.add(EvidenceFound(evidence.offender, encode(evidence)))

    # ---- proposals ---------------------------------------------------------------------------

    def compare_proposal(self, source: int, shown: ShownProposal) -> None:
        """A member shows what it saw proposed in a view: is it what this node saw, or was shown?
        The first that is shown before the node's own comes is verified, and waits for that."""
        view = self._pacemaker.view
        is_recent = view - PROPOSAL_VIEWS_BEHIND_MAX <= shown.view <= view + VIEW_AHEAD_MAX
        if self._proposals.is_known(shown.view):
            self.find_contradiction(source, shown)
        elif is_recent and self._is_accusable(shown.view):
            check = self._validator.check_shown(shown)
            self._verify_apart(source, shown, check.claims)

    def apply_shown(self, source: int, shown: ShownProposal) -> None:
        """What was shown is signed by the leader of its view."""
        if self._proposals.is_known(shown.view):
            self.find_contradiction(source, shown)
        else:
            self._proposals.add_shown(shown)

    def find_contradiction(self, source: int, shown: ShownProposal) -> None:
        """Is another block known that the same leader proposed in the same view?"""
        rival = self._proposals.find_rival(shown.view, shown.block_id)
        if rival is not None:
            leader, epoch = self._schedule.leader(shown.view), self._committee.epoch
            halves = [(each.block_id, each.signature) for each in (rival, shown)]
            self.suspect(make_double_proposal(leader, epoch, shown.view, *halves), source)

    def note_certified(self, qc: QC) -> None:
        """A quorum voted for a block: was another proposed here, or will be?"""
        if qc.view >= self._pacemaker.view - PROPOSAL_VIEWS_BEHIND_MAX:
            self._proposals.add_certified(qc)
            self.show_rival(qc.view)

    def show_rival(self, view: int) -> None:
        """A quorum voted for another block of a view than the one that its leader proposed here:
        show the voters this one, for they hold the other. Once a view."""
        rival = self._proposals.take_rival(view)
        if rival is not None and self._is_accusable(view):
            shown, qc = rival
            voters = decode_bitmap(qc.signers, len(self._committee))
            self._out.send([each for each in voters if each != self._me], shown)

    def _is_accusable(self, view: int) -> bool:
        """Is evidence against the leader of a view of use to this node?"""
        leader = self._schedule.leader(view)
        return leader != self._me and not self.is_convicted(DoubleProposal, leader)

    def _verify_apart(
        self, source: int, subject: Suspicion | ShownProposal, claims: tuple[Claim, ...]
    ) -> None:
        """Verify what may prove something, beside the messages of its source: one of each kind at
        a time, and nothing twice at the same time."""
        key = (type(subject), source)
        if key in self._suspected or subject in self._suspected.values():
            return
        self._suspected[key] = subject
        token, checks = self._out.token(), [Check(None, claims)]
        verify = self._intake.submit(source, subject, checks, token, is_counted=False)
        assert verify is not None, "nobody else waits for these signatures"
        self._out.add(verify)
