"""What a leader puts into a block, and what its voters check against the chain below it."""

from collections.abc import Mapping
from typing import Final, Protocol

from consensus.block_tree import BlockTree, Node
from consensus.config import ConsensusConfig
from consensus.pacemaker import Urgency
from consensus.types import (
    EVIDENCE_MAX_PER_BLOCK,
    QC,
    TC,
    AvailabilityCertificate,
    Block,
    StateCertificate,
)
from consensus.validation import STATE_CERTIFICATE_DEPTH_MIN, ValidationError

STATE_CERTIFICATE_HURRY: Final = 4
"""Blocks with lanes leave the state certificate to blocks without, until the chain's newest is so
old that this many times its age would stop the lanes."""


class PayloadSource(Protocol):
    """Where a leader finds what to order. Everything offered has been verified."""

    def certified_tips(self) -> Mapping[int, AvailabilityCertificate]:
        """The newest availability certificate of each lane, by author."""
        ...

    def newest_state_certificate(self) -> StateCertificate | None:
        """The state certificate of the highest height known."""
        ...

    def pending_evidence(self) -> tuple[bytes, ...]:
        """Encoded evidence that is not in a committed block yet, oldest first."""
        ...


class Contents:
    """What a child of one block would carry now."""

    def __init__(
        self, config: ConsensusConfig, tree: BlockTree, parent: Node, payload: PayloadSource
    ) -> None:
        self.height = parent.height + 1
        self.state_certificate = _choose_state_certificate(tree, parent, payload)
        certified_height = (
            parent.state_certificate_height
            if self.state_certificate is None
            else self.state_certificate.header.height
        )
        self.lanes: tuple[AvailabilityCertificate, ...] = ()
        if not is_lagging(config, self.height, certified_height):
            self.lanes = tuple(
                certificate
                for author, certificate in sorted(payload.certified_tips().items())
                if certificate.data.sequence > parent.cursors.get(author, 0)
            )
        lag = self.height - parent.state_certificate_height
        if self.lanes and lag * STATE_CERTIFICATE_HURRY <= config.execution_lag_max_blocks:
            # Every voter verifies it before voting. Somebody waits for the lanes, nobody for this.
            self.state_certificate = None
        self.evidence = _choose_evidence(tree, parent, payload)
        # A state certificate alone is no reason for a block: it rides in the next one.
        if self.lanes or self.evidence:
            self.urgency = Urgency.WORK
        elif tree.has_uncommitted_work(parent):
            self.urgency = Urgency.COMPLETION
        else:
            self.urgency = Urgency.IDLE

    def make_block(
        self, epoch: int, view: int, author: int, time_ms: int, qc: QC, tc: TC | None
    ) -> Block:
        """The block itself."""
        return Block(
            epoch=epoch,
            height=self.height,
            view=view,
            author=author,
            parent_id=qc.block_id,
            time_ms=time_ms,
            lanes=self.lanes,
            inbox=(),
            openings=b"",
            evidence=self.evidence,
            state_certificate=self.state_certificate,
            qc=qc,
            tc=tc,
        )


def is_lagging(config: ConsensusConfig, height: int, certified_height: int) -> bool:
    """Must a block at `height` stay without lanes, because execution is too far behind?

    Heights of the block and of the certificate in its ancestry decide, never what a node happens
    to have committed, so that all voters agree.
    """
    return height - certified_height > config.execution_lag_max_blocks


def _choose_state_certificate(
    tree: BlockTree, parent: Node, payload: PayloadSource
) -> StateCertificate | None:
    certificate = payload.newest_state_certificate()
    if certificate is None:
        return None
    height = certificate.header.height
    is_newer = height > parent.state_certificate_height
    # Only what this node committed itself: then `parent` is deep enough above it, too.
    is_deep = height <= min(tree.root.height, parent.height + 1 - STATE_CERTIFICATE_DEPTH_MIN)
    return certificate if is_newer and is_deep else None


def _choose_evidence(tree: BlockTree, parent: Node, payload: PayloadSource) -> tuple[bytes, ...]:
    pending = payload.pending_evidence()
    if not pending:
        return ()
    included = {
        encoded
        for node in tree.ancestors(parent)
        if node.block is not None
        for encoded in node.block.evidence
    }
    return tuple(each for each in pending if each not in included)[:EVIDENCE_MAX_PER_BLOCK]


def validate_child(config: ConsensusConfig, tree: BlockTree, parent: Node, block: Block) -> None:
    """The rules that bind a block to its ancestors (B2). Raises `ValidationError`.

    They depend on the chain alone, so a certified block that breaks one proves that a quorum is
    not honest.
    """
    if block.height != parent.height + 1:
        raise ValidationError("block.height")
    if block.view <= parent.view:
        raise ValidationError("block.view_not_above_parent")
    if block.time_ms <= parent.time_ms:
        raise ValidationError("block.time_not_above_parent")
    for certificate in block.lanes:
        if certificate.data.sequence <= parent.cursors.get(certificate.data.author, 0):
            raise ValidationError("block.lane_not_above_cursor")
    certified_height = parent.state_certificate_height
    state = block.state_certificate
    if state is not None:
        if state.header.height <= certified_height:
            raise ValidationError("block.state_not_newer")
        if state.header.height >= tree.root.height:
            ancestor_id = tree.find_committed_id(state.header.height, parent)
            if ancestor_id != state.header.block_id:
                raise ValidationError("block.state_of_another_chain")
        certified_height = state.header.height
    if block.lanes and is_lagging(config, block.height, certified_height):
        raise ValidationError("block.execution_lag")
