"""Signs something else than what its messages say: each spoils the certificate it is meant for."""

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Send
from consensus.messages import Ack, Proposal, StateVote, Timeout, Vote
from localnet.byzantine.behaviour import Behaviour


class BadSignature(Behaviour):
    """What all of them have in common."""

    kind: ClassVar[type[Vote] | type[Timeout] | type[Ack] | type[StateVote] | type[Proposal]]
    """The messages that are signed wrongly."""

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        message = send.message
        if not isinstance(message, self.kind):
            return (send,)
        bad = self.tools.sign(b"something else")
        # Its own node would notice, and blame itself.
        mine, others = self.tools.split_own(send.to)
        return (replace(send, to=mine), Send(others, replace(message, signature=bad), send.after))


class BadVote(BadSignature):
    """Signs its votes wrongly, which spoils the QC they are meant for."""

    name: ClassVar[str] = "bad_signature_vote"
    kind = Vote


class BadTimeout(BadSignature):
    """Signs its timeouts wrongly, which spoils the TC they are meant for."""

    name: ClassVar[str] = "bad_signature_timeout"
    kind = Timeout


class BadAck(BadSignature):
    """Acknowledges lanes with signatures that are none."""

    name: ClassVar[str] = "bad_signature_ack"
    kind = Ack


class BadStateVote(BadSignature):
    """Signs its state votes wrongly."""

    name: ClassVar[str] = "bad_signature_state_vote"
    kind = StateVote


class BadProposal(BadSignature):
    """Signs its proposals wrongly."""

    name: ClassVar[str] = "bad_signature_proposal"
    kind = Proposal
