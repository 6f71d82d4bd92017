"""Breaks each rule of form by itself, in messages that are well signed and right otherwise.

Other lies break many rules at once, so that a rule which is gone does not show: the next one
refuses the message as well. Here each message breaks one, and it is known under which code it must
be refused.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

from msgspec.structs import replace

from consensus.effects import Send, ServeCommitted
from consensus.evidence import DoubleProposal
from consensus.messages import (
    Advance,
    CommittedResponse,
    Message,
    Proposal,
)
from consensus.types import (
    GENESIS_VIEW,
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
)
from crypto.bitmap import encode_bitmap
from crypto.codec import encode
from localnet.byzantine.behaviour import Tools
from localnet.byzantine.forging import Forger
from localnet.byzantine.leading import BendingLeader
from node.events import NodeEffect, NodeEvent

FAULTS_MAX: Final = 4_096
"""Own messages whose fault is remembered."""

_FAR_SEQUENCE: Final = 1_000_000
"""Above every lane's cursor."""

Broken = Iterator[tuple[str, Message]]
"""The code under which a message must be refused, and the message."""


class Malformed(BendingLeader):
    """Breaks one rule of form in each message, all of them in turn."""

    name: ClassVar[str] = "malformed"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self.faults: OrderedDict[Message, str] = OrderedDict()
        """What was said, and the code under which each must be refused."""
        self._hollow = Forger(tools, is_hollow=True)
        self._lonely = Forger(tools, is_hollow=False)
        count = len(tools.committee)
        self._everyone = encode_bitmap(range(count), count)
        self._nobody = encode_bitmap((), count)

    def bend_block(self, now_ms: int, block: Block) -> Block:
        return block

    # ---- saying it -----------------------------------------------------------------------------

    def volunteer(self, now_ms: int, event: NodeEvent) -> Iterable[Send]:
        if self.opened is None:
            return
        block = self.opened.block
        yield from self._say(self._break_votes(block))
        yield from self._say(self._break_timeouts(block))
        yield from self._say(self._break_advances(block))
        bad = replace(block, author=self.tools.member)
        yield from self._say(iter([("proposal.not_leader", self._propose(bad, block.view))]))

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        match send.message:
            case Proposal(block=block):
                yield from self._say(self._break_proposals(block))
                yield from self._say(self._break_blocks(block))
                yield from self._say(self._break_payloads(block))
            case _:
                pass
        yield from super().send(now_ms, send)

    def bend(self, now_ms: int, effect: NodeEffect) -> Iterable[NodeEffect]:
        if isinstance(effect, ServeCommitted) and self.notes.proposals:
            newest = self.notes.proposals[max(self.notes.proposals)].block
            blockless = CommittedResponse((), newest.qc, effect.committed_height)
            return self._say(iter([("sync.blocks_missing", blockless)]), (effect.to,))
        return super().bend(now_ms, effect)

    def _say(self, broken: Broken, to: tuple[int, ...] | None = None) -> Iterator[Send]:
        for code, message in broken:
            self.faults[message] = code
            if len(self.faults) > FAULTS_MAX:
                self.faults.popitem(last=False)
            yield Send(self.tools.others if to is None else to, message)

    # ---- votes and timeouts --------------------------------------------------------------------

    def _break_votes(self, block: Block) -> Broken:
        tools = self.tools
        data = VoteData(block.epoch, block.view, block.height, block.block_id(tools.chain_id))
        yield "vote.author", replace(tools.sign_vote(data), author=tools.others[0])
        yield "vote.epoch", tools.sign_vote(replace(data, epoch=data.epoch + 1))
        yield "vote.view_zero", tools.sign_vote(replace(data, view=GENESIS_VIEW))
        yield "vote.height_zero", tools.sign_vote(replace(data, height=0))

    def _break_timeouts(self, block: Block) -> Broken:
        sign, qc = self.tools.sign_timeout, block.qc
        view, epoch = qc.view + 1, block.epoch
        data = TimeoutData(epoch, view, qc.view, 0)
        own = self._forge_qc(view, block.height)
        tc = self._hollow.forge_tc(view, qc)
        later = replace(data, view=view + 1)
        yield "timeout.author", replace(sign(data, qc, None), author=self.tools.others[0])
        yield "timeout.epoch", sign(replace(data, epoch=epoch + 1), qc, None)
        named = TimeoutData(epoch, view + 1, view + 1, 0)
        yield "timeout.high_qc_view", sign(named, self._forge_qc(view + 1, block.height), tc)
        yield "timeout.tip_view", sign(replace(data, tip_view=view + 1), qc, None)
        if qc.view:
            missed = replace(data, high_qc_view=qc.view - 1)
            yield "timeout.high_qc_mismatch", sign(missed, qc, None)
        yield "timeout.tc_needless", sign(TimeoutData(epoch, view + 1, view, 0), own, tc)
        yield "timeout.view_unjustified", sign(replace(data, view=view + 5), qc, tc)
        older = [known for known in self.notes.qcs.values() if known.view < qc.view]
        if older:
            behind = replace(later, high_qc_view=older[-1].view)
            yield "timeout.high_qc_older_than_tc", sign(behind, older[-1], tc)

    # ---- certificates --------------------------------------------------------------------------

    def _forge_qc(self, view: int, height: int) -> QC:
        """A QC for something, named by everybody."""
        block_id = self.tools.random.randbytes(32)
        return self._hollow.forge_qc(VoteData(self.tools.committee.epoch, view, height, block_id))

    def _break_advances(self, block: Block) -> Broken:
        for code, qc in self._break_qcs(block):
            yield code, Advance(qc, self._hollow.forge_tc(block.view + 3, block.qc))
        for code, tc in self._break_tcs(block):
            yield code, Advance(block.qc, tc)

    def _break_qcs(self, block: Block) -> Iterator[tuple[str, QC]]:
        good = self._forge_qc(block.view + 2, block.height)
        data = good.data
        yield "qc.epoch", replace(good, data=replace(data, epoch=data.epoch + 1))
        yield "qc.view_zero", replace(good, data=replace(data, view=GENESIS_VIEW))
        yield "qc.height_zero", replace(good, data=replace(data, height=0))
        yield "qc.signers", replace(good, signers=good.signers + b"\x00")
        yield "qc.power", self._lonely.forge_qc(data)

    def _break_tcs(self, block: Block) -> Iterator[tuple[str, TC]]:
        view, qc = block.view + 3, block.qc
        good = self._hollow.forge_tc(view, qc)
        group = good.groups[0]
        count = len(self.tools.committee)
        half = replace(group, signers=encode_bitmap(range(count // 2), count))
        rest = replace(group, signers=encode_bitmap(range(count // 2, count), count))
        tip = view - 1
        empty = TimeoutGroup(qc.view, tip, self._nobody, group.signature)
        yield "tc.epoch", replace(good, epoch=good.epoch + 1)
        yield "tc.groups_order", replace(good, groups=(replace(half, tip_view=tip), rest))
        yield "tc.high_qc_view", self._hollow.forge_tc(view, self._forge_qc(view, block.height))
        yield "tc.tip_view", replace(good, groups=(replace(group, tip_view=view + 1),))
        yield "tc.signers", replace(good, groups=(replace(group, signers=b"\xff" * 9),))
        yield "tc.group_empty", replace(good, groups=(group, empty))
        yield "tc.signers_overlap", replace(good, groups=(group, replace(group, tip_view=tip)))
        yield "tc.power", self._lonely.forge_tc(view, qc)
        yield "tc.high_qc_not_maximum", replace(good, high_qc=self._forge_qc(qc.view + 1, 1))

    # ---- proposals -----------------------------------------------------------------------------

    def _propose(self, block: Block, view: int) -> Proposal:
        return self.tools.sign_proposal(block, view)

    def _break_proposals(self, block: Block) -> Broken:
        other, view = self.tools.others[0], block.view
        later = view + 1
        while self.tools.leaders.leader(later) != self.tools.member:
            later += 1
        yield "proposal.author", replace(self._propose(block, view), author=other)
        yield "proposal.view_mismatch", self._propose(block, later)
        yield "proposal.epoch", self._propose(replace(block, epoch=block.epoch + 1), view)
        yield "proposal.block_author", self._propose(replace(block, author=other), view)

    def _break_blocks(self, block: Block) -> Broken:
        for code, broken in self._break_links(block):
            yield code, self._propose(broken, block.view)

    def _break_links(self, block: Block) -> Iterator[tuple[str, Block]]:
        view, qc = block.view, block.qc
        yield "block.parent_mismatch", replace(block, parent_id=self.tools.random.randbytes(32))
        yield "block.height", replace(block, height=block.height + 1)
        if view > 1:
            ahead = self._forge_qc(view, block.height - 1) if block.height > 1 else None
            past = self._hollow.forge_tc(view - 1, self._forge_qc(max(view - 2, 1), 1))
            if ahead is not None and view > 2:
                built = replace(block, qc=ahead, parent_id=ahead.block_id, tc=past)
                yield "block.view_not_above_qc", built
        if qc.view + 1 == view > 1:
            needless = self._hollow.forge_tc(view - 1, self._forge_qc(max(view - 2, 1), 1))
            if view > 2:
                yield "block.tc_needless", replace(block, tc=needless)
        older = [known for known in self.notes.qcs.values() if 0 < known.view < view - 2]
        if older:
            old = older[-1]
            base = replace(
                block,
                qc=old,
                parent_id=old.block_id,
                height=old.height + 1,
                lanes=(),
                state_certificate=None,
                tc=None,
            )
            yield "block.view_unjustified", base
            newer = self._hollow.forge_tc(view - 1, self._forge_qc(old.view + 1, 1))
            yield "block.qc_older_than_tc", replace(base, tc=newer)

    def _break_payloads(self, block: Block) -> Broken:
        bare = replace(block, lanes=(), state_certificate=None, evidence=())
        for code, broken in (
            *self._break_lanes(bare),
            *self._break_states(bare),
            *self._break_evidence(bare),
            ("block.field_unused", replace(bare, inbox=(b"something",))),
        ):
            yield code, self._propose(broken, block.view)

    def _break_lanes(self, block: Block) -> Iterator[tuple[str, Block]]:
        tools = self.tools
        data = AckData(block.epoch, tools.member, _FAR_SEQUENCE, tools.random.randbytes(32))
        forge = self._hollow.forge_availability
        good = forge(data)
        broken: tuple[tuple[str, AvailabilityCertificate], ...] = (
            ("availability.epoch", forge(replace(data, epoch=data.epoch + 1))),
            ("availability.author", forge(replace(data, author=len(tools.committee)))),
            ("availability.sequence_zero", forge(replace(data, sequence=0))),
            ("availability.signers", replace(good, signers=good.signers + b"\x00")),
            ("availability.power", self._lonely.forge_availability(data)),
        )
        for code, certificate in broken:
            yield code, replace(block, lanes=(certificate,))
        yield "block.lanes_order", replace(block, lanes=(good, good))

    def _break_states(self, block: Block) -> Iterator[tuple[str, Block]]:
        if block.height < 3:
            return
        random = self.tools.random
        roots = [random.randbytes(32) for _ in range(4)]
        header = CheckpointHeader(
            block.epoch, block.height - 2, roots[0], block.time_ms, *roots[1:]
        )
        good = self._hollow.forge_state(header)
        broken: tuple[tuple[str, StateCertificate], ...] = (
            ("state.epoch", replace(good, header=replace(header, epoch=header.epoch + 1))),
            ("state.signers", replace(good, signers=good.signers + b"\x00")),
            ("state.power", self._lonely.forge_state(header)),
            ("block.state_too_new", replace(good, header=replace(header, height=block.height - 1))),
        )
        for code, certificate in broken:
            yield code, replace(block, state_certificate=certificate)

    def _break_evidence(self, block: Block) -> Iterator[tuple[str, Block]]:
        tools = self.tools
        first, second = sorted(tools.random.randbytes(32) for _ in range(2))
        signature = tools.sign(first)
        double = DoubleProposal(
            tools.member, block.epoch, block.view, first, signature, second, signature
        )
        piece = encode(double)
        yield "block.evidence_repeated", replace(block, evidence=(piece, piece))
        swapped = encode(replace(double, first=second, second=first))
        yield "block.evidence_invalid", replace(block, evidence=(swapped,))
