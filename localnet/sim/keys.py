"""Every member's secrets in one hand: certificates, blocks and messages, honest or forged.

Whoever holds a `Keys` can sign for anybody, so scripted peers and byzantine members are a few
lines each. What it makes is well-formed unless a caller asks for something else.
"""

from collections.abc import Sequence
from typing import Final

from committee.committee import Committee, Member
from committee.schedule import LeaderSchedule
from consensus.messages import Proposal, Timeout, Vote
from consensus.types import (
    QC,
    TC,
    AckData,
    AvailabilityCertificate,
    Block,
    CheckpointHeader,
    StateCertificate,
    TimeoutData,
    TimeoutGroup,
    VoteData,
    make_genesis_qc,
)
from crypto.bitmap import encode_bitmap
from crypto.digest import ZERO_DIGEST, Domain, digest
from crypto.mock import MockIdentity, MockScheme, derive_test_secret
from crypto.scheme import IdentityScheme, SignatureScheme

CHAIN_ID: Final = digest(Domain.GENESIS, b"simulated chain")
GENESIS_TIME_MS: Final = 0

Report = tuple[Sequence[int], int, int]
"""Members who time out alike, their high-QC view and their tip view."""


class Keys:
    """The members' secrets, and signatures by all or some of them."""

    def __init__(
        self,
        powers: Sequence[int] = (1, 1, 1, 1),
        scheme: SignatureScheme | None = None,
        identity_scheme: IdentityScheme | None = None,
        leader_seed: bytes = b"",
    ) -> None:
        self.scheme = scheme = scheme if scheme is not None else MockScheme()
        self.identity_scheme = identity_scheme = identity_scheme or MockIdentity()
        names = [f"node{index}" for index in range(len(powers))]
        self.secrets = [derive_test_secret(f"{name} consensus") for name in names]
        self.identity_secrets = [derive_test_secret(f"{name} identity") for name in names]
        oracle_secrets = [derive_test_secret(f"{name} oracle") for name in names]
        self.committee = Committee(
            epoch=0,
            members=tuple(
                Member(
                    name=names[index],
                    power=power,
                    consensus_key=scheme.public_key(self.secrets[index]),
                    consensus_key_proof=scheme.prove_possession(self.secrets[index]),
                    identity_key=identity_scheme.public_key(self.identity_secrets[index]),
                    oracle_key=identity_scheme.public_key(oracle_secrets[index]),
                )
                for index, power in enumerate(powers)
            ),
        )
        self.everyone = tuple(range(len(powers)))
        self.voters = self.everyone
        """Who signs the QCs that name no signers."""
        self.schedule = LeaderSchedule(self.committee, leader_seed)
        self.genesis = make_genesis_qc(CHAIN_ID, self.committee)

    def sign(self, member: int, message: bytes) -> bytes:
        """One member's signature."""
        return self.scheme.sign(self.secrets[member], message)

    def aggregate(self, members: Sequence[int], message: bytes) -> tuple[bytes, bytes]:
        """(bitmap, signature) of several members over one message."""
        signatures = [self.sign(member, message) for member in members]
        bitmap = encode_bitmap(sorted(members), len(self.committee))
        return bitmap, self.scheme.aggregate(signatures)

    def certify_lane(self, author: int, sequence: int) -> AvailabilityCertificate:
        """An availability certificate by all members for a batch that is a mere number."""
        batch_id = digest(Domain.BATCH, bytes([author]), sequence.to_bytes(8, "big"))
        data = AckData(self.committee.epoch, author, sequence, batch_id)
        everyone = range(len(self.committee))
        return AvailabilityCertificate(
            data, *self.aggregate(everyone, data.signing_bytes(CHAIN_ID))
        )

    def certify_state(self, height: int, block_id: bytes) -> StateCertificate:
        """A state certificate by all members, with empty roots."""
        roots = (ZERO_DIGEST, ZERO_DIGEST, ZERO_DIGEST)
        header = CheckpointHeader(self.committee.epoch, height, block_id, 0, *roots)
        everyone = range(len(self.committee))
        return StateCertificate(header, *self.aggregate(everyone, header.signing_bytes(CHAIN_ID)))

    # ---- blocks and certificates -------------------------------------------------------------

    def make_block(
        self,
        view: int,
        qc: QC,
        *,
        tc: TC | None = None,
        author: int | None = None,
        time_ms: int | None = None,
        lanes: tuple[AvailabilityCertificate, ...] = (),
        evidence: tuple[bytes, ...] = (),
        state_certificate: StateCertificate | None = None,
    ) -> Block:
        """A block by the leader of its view on top of what `qc` certifies."""
        return Block(
            epoch=self.committee.epoch,
            height=qc.height + 1,
            view=view,
            author=self.schedule.leader(view) if author is None else author,
            parent_id=qc.block_id,
            time_ms=qc.height + 1 if time_ms is None else time_ms,
            lanes=lanes,
            inbox=(),
            openings=b"",
            evidence=evidence,
            state_certificate=state_certificate,
            qc=qc,
            tc=tc,
        )

    def make_vote_data(self, block: Block, view: int | None = None) -> VoteData:
        """What a vote for a block says."""
        chosen = block.view if view is None else view
        return VoteData(block.epoch, chosen, block.height, block.block_id(CHAIN_ID))

    def make_qc(
        self, block: Block, *, view: int | None = None, signers: Sequence[int] | None = None
    ) -> QC:
        """A QC for a block by `voters` or others."""
        data = self.make_vote_data(block, view)
        chosen = self.voters if signers is None else signers
        return QC(data, *self.aggregate(chosen, data.signing_bytes(CHAIN_ID)))

    def make_tc(self, view: int, high_qc: QC, reports: Sequence[Report] | None = None) -> TC:
        """A TC of a view; by default all members report `high_qc` and no tip."""
        chosen = reports if reports is not None else [(self.everyone, high_qc.view, 0)]
        groups = []
        for members, high_qc_view, tip_view in chosen:
            data = TimeoutData(self.committee.epoch, view, high_qc_view, tip_view)
            bitmap, signature = self.aggregate(members, data.signing_bytes(CHAIN_ID))
            groups.append(TimeoutGroup(high_qc_view, tip_view, bitmap, signature))
        return TC(self.committee.epoch, view, tuple(groups), high_qc)

    # ---- messages ----------------------------------------------------------------------------

    def make_proposal(self, block: Block, view: int | None = None) -> Proposal:
        """A proposal signed by the block's author."""
        unsigned = Proposal(block, block.view if view is None else view, block.author, bytes(96))
        signature = self.sign(block.author, unsigned.signing_bytes(CHAIN_ID))
        return Proposal(block, unsigned.view, block.author, signature)

    def make_vote(self, author: int, block: Block, view: int | None = None) -> Vote:
        """One member's vote."""
        data = self.make_vote_data(block, view)
        return Vote(data, author, self.sign(author, data.signing_bytes(CHAIN_ID)))

    def make_timeout(
        self, author: int, view: int, high_qc: QC, *, tip_view: int = 0, last_tc: TC | None = None
    ) -> Timeout:
        """One member's timeout."""
        data = TimeoutData(self.committee.epoch, view, high_qc.view, tip_view)
        signature = self.sign(author, data.signing_bytes(CHAIN_ID))
        return Timeout(data, high_qc, last_tc, author, signature)
