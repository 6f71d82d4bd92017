"""When two signed contents convict: the rules of evidence written down a second time.

Nothing here comes from `consensus.evidence`: the encoding, the signed bytes, and what contradicts
what are read from the documented formats, so that a product that makes, verifies or believes
evidence in a wrong way finds no accomplice.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgpack

from consensus.messages import (
    BatchMessage,
    Message,
    Proposal,
    ShownProposal,
    StateVote,
    Timeout,
    Vote,
)
from consensus.types import CheckpointHeader
from crypto.codec import encode
from crypto.scheme import IdentityScheme, SignatureScheme
from localnet.sim.oracles.certificates import hash_parts, lay_out_checkpoint, pack

EVIDENCE_MAX_BYTES: Final = 1_024

Offence = tuple[int, str]
"""Who, and the name of the offence."""

_KINDS: Final = {
    "vote": "DoubleVote",
    "timeout": "DoubleTimeout",
    "proposal": "DoubleProposal",
    "batch": "DoubleBatch",
    "state_vote": "DoubleStateVote",
}
"""The tag of each kind of evidence, and what the offence is called."""


class Statement(NamedTuple):
    """What a member signed."""

    tag: str
    author: int
    place: tuple[int, ...]
    """Epoch, and the view, height or sequence: an honest member says one thing there."""
    content: bytes
    digest: bytes
    """What the signature covers."""
    signature: bytes


class Prosecutor:
    """Tells what convicts whom, in one committee."""

    def __init__(
        self,
        chain_id: bytes,
        keys: Sequence[tuple[bytes, bytes]],
        schemes: tuple[SignatureScheme, IdentityScheme],
        epoch: int = 0,
    ) -> None:
        """`keys`: of each member for consensus and for its identity."""
        self._chain_id = chain_id
        self._keys = tuple(keys)
        self._scheme, self._identity_scheme = schemes
        self._epoch = epoch

    def judge_encoded(self, encoded: bytes) -> Offence | None:
        """Of whose guilt an archived or committed piece of evidence convinces; None if of
        nobody's."""
        halves = self._read(encoded)
        if halves is None or halves[0].content >= halves[1].content:
            return None
        return self.judge(*halves)

    def judge(self, one: Statement, other: Statement) -> Offence | None:
        """What two statements prove together, in either order."""
        is_contradiction = (
            (one.tag, one.author, one.place) == (other.tag, other.author, other.place)
            and one.place[0] == self._epoch
            and one.content != other.content
        )
        if not is_contradiction or not all(self.is_signed(each) for each in (one, other)):
            return None
        return one.author, _KINDS[one.tag]

    def is_signed(self, said: Statement) -> bool:
        """Is it what its author signed?"""
        if said.author >= len(self._keys):
            return False
        key, identity_key = self._keys[said.author]
        if said.tag == "batch":
            return self._identity_scheme.verify(identity_key, said.digest, said.signature)
        return self._scheme.verify(key, said.digest, said.signature)

    # ---- statements ----------------------------------------------------------------------------

    def state(self, message: Message) -> Statement | None:
        """What a message says in its author's own name; None for one that cannot convict."""
        match message:
            case Vote(data=data):
                fields: list[Any] = [data.epoch, data.view, data.height, data.block_id]
                return self._make("vote", message.author, fields, message.signature)
            case Timeout(data=data):
                fields = [data.epoch, data.view, data.high_qc_view, data.tip_view]
                return self._make("timeout", message.author, fields, message.signature)
            case Proposal(block=block, view=view):
                block_id = hash_parts("rota/block/v1", self._chain_id, encode(block))
                fields = [block.epoch, view, block_id]
                return self._make("proposal", message.author, fields, message.signature)
            case StateVote(header=header):
                fields = list(msgpack.unpackb(encode(header)))
                return self._make("state_vote", message.author, fields, message.signature)
            case BatchMessage(signed_header=signed):
                fields = list(msgpack.unpackb(encode(signed.header)))
                return self._make("batch", signed.header.author, fields, signed.signature)
            case _:
                return None

    def state_shown(self, leader: int, shown: ShownProposal) -> Statement:
        """What somebody shows of a proposal of the leader of its view."""
        fields = [self._epoch, shown.view, shown.block_id]
        return self._make("proposal", leader, fields, shown.signature)

    def _make(self, tag: str, author: int, fields: list[Any], signature: bytes) -> Statement:
        chain_id, content = self._chain_id, pack(*fields)
        place: tuple[int, ...] = tuple(fields[:2])
        if tag == "proposal":
            epoch, view = (number.to_bytes(8, "big") for number in fields[:2])
            content = fields[2]
            covered = hash_parts("rota/proposal/v1", chain_id, epoch, view, content)
        elif tag == "state_vote":
            layout = lay_out_checkpoint(chain_id, CheckpointHeader(*fields))
            covered = hash_parts("rota/checkpoint/v1", layout)
        elif tag == "batch":
            place = tuple(fields[:3])
            covered = hash_parts("rota/batch-author/v1", chain_id, content)
        else:
            covered = hash_parts(f"rota/{tag}/v1", chain_id, content)
        return Statement(tag, author, place, content, covered, signature)

    def _read(self, encoded: bytes) -> tuple[Statement, Statement] | None:
        """The two halves of encoded evidence; None for what is no evidence."""
        if len(encoded) > EVIDENCE_MAX_BYTES:
            return None
        try:
            tag, *fields = msgpack.unpackb(encoded)
            if msgpack.packb([tag, *fields]) != encoded:
                return None
            match tag, fields:
                case "vote" | "timeout" | "state_vote", [author, one, first, other, second]:
                    pass
                case "proposal", [author, epoch, view, one_id, first, other_id, second]:
                    one, other = [epoch, view, one_id], [epoch, view, other_id]
                case "batch", [[one, first], [other, second]]:
                    author = one[1]
                case _:
                    return None
            return self._make(tag, author, one, first), self._make(tag, author, other, second)
        except (ValueError, TypeError, IndexError, AttributeError, OverflowError):
            # Liars put anything into their blocks.
            return None
