"""Leads two lanes, and has each certified by other members."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import ClassVar, Final

from msgspec.structs import replace

from consensus.effects import Received, Send, ServeBatches
from consensus.messages import Ack, BatchMessage, LaneCertificate
from consensus.types import AckData, AvailabilityCertificate, BatchHeader
from crypto.bitmap import encode_bitmap
from localnet.byzantine.behaviour import Behaviour, Tools
from localnet.byzantine.forked_lane import make_other_body
from node.events import NodeEffect, NodeEvent

BATCHES_KEPT: Final = 256


class CertifiedFork(Behaviour):
    """Leads two lanes, each seen and certified by another half of the others."""

    name: ClassVar[str] = "certified_fork"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._deceived = frozenset(tools.others[len(tools.others) // 2 :])
        """Who sees the second lane only."""
        self._rivals: OrderedDict[int, BatchMessage] = OrderedDict()
        """The second lane, by sequence."""
        self._own: OrderedDict[bytes, int] = OrderedDict()
        """The first lane: its batches' sequences."""
        self._acks: dict[bytes, dict[int, bytes]] = {}

    def bend(self, now_ms: int, effect: NodeEffect) -> Iterable[NodeEffect]:
        match effect:
            case Send(message=BatchMessage() as message) if self._is_own(message):
                rival = self._fork(message)
                if rival is None:
                    return (effect,)
                return (self._spare(effect), Send(tuple(sorted(self._deceived)), rival))
            case Send(message=LaneCertificate()) if self._rivals:
                return (self._spare(effect),)
            case ServeBatches(to, batch_ids) if to in self._deceived:
                sequences = [self._own[each] for each in batch_ids if each in self._own]
                rivals = [self._rivals.get(sequence) for sequence in sequences]
                return tuple(Send((to,), rival) for rival in rivals if rival) or (effect,)
            case _:
                return (effect,)

    def _spare(self, send: Send) -> Send:
        """The same, to those who see the first lane."""
        return replace(send, to=tuple(each for each in send.to if each not in self._deceived))

    def _is_own(self, message: BatchMessage) -> bool:
        return message.signed_header.header.author == self.tools.member

    def _fork(self, message: BatchMessage) -> BatchMessage | None:
        """The batch at the same place of the second lane; None where that is not known."""
        header = message.signed_header.header
        parent = header.parent
        if header.sequence > 1:
            previous = self._rivals.get(header.sequence - 1)
            if previous is None:
                return None
            parent = self._id_of(previous.signed_header.header)
        body, digest = make_other_body(header)
        rival = replace(header, parent=parent, body_digest=digest, size_bytes=len(body))
        forked = BatchMessage(self.tools.sign_header(rival), body)
        self._rivals.setdefault(header.sequence, forked)
        self._own[self._id_of(header)] = header.sequence
        for kept in (self._rivals, self._own):
            if len(kept) > BATCHES_KEPT:
                kept.popitem(last=False)
        return self._rivals[header.sequence]

    def _id_of(self, header: BatchHeader) -> bytes:
        return header.batch_id(self.tools.chain_id)

    def hear(self, now_ms: int, event: NodeEvent) -> NodeEvent | None:
        """The honest node inside knows nothing of the second lane."""
        return None if self._find_rival_ack(event) is not None else event

    def _find_rival_ack(self, event: NodeEvent) -> Ack | None:
        if not isinstance(event, Received) or not isinstance(event.message, Ack):
            return None
        rival = self._rivals.get(event.message.data.sequence)
        if rival is None:
            return None
        is_rival = event.message.data.batch_id == self._id_of(rival.signed_header.header)
        return event.message if is_rival else None

    def volunteer(self, now_ms: int, event: NodeEvent) -> Iterable[Send]:
        ack = self._find_rival_ack(event)
        if ack is None:
            return
        tools, data = self.tools, ack.data
        acks = self._acks.setdefault(data.batch_id, {})
        acks[ack.signer] = ack.signature
        acks[tools.member] = tools.sign(data.signing_bytes(tools.chain_id))
        if tools.committee.power_of(acks) >= tools.committee.honest_power:
            del self._acks[data.batch_id]
            certificate = LaneCertificate(self._certify(data, acks))
            yield Send(tuple(sorted(self._deceived)), certificate)

    def _certify(self, data: AckData, acks: dict[int, bytes]) -> AvailabilityCertificate:
        signers = sorted(acks)
        signature = self.tools.scheme.aggregate([acks[signer] for signer in signers])
        bitmap = encode_bitmap(signers, len(self.tools.committee))
        return AvailabilityCertificate(data, bitmap, signature)
