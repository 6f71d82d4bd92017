"""A hostile member against a whole cluster: bent frames between honest traffic.

Member 3 runs an honest node; besides, frames arrive in its name that are real messages of this
cluster or of the corpus with parts changed. They go through the very function with which a node
reads frames (`node.host.decode_frame`). Some are signed again with the member's own keys, so that
what was bent passes the check of its signature. Every oracle of the simulator watches: no node
stops, nothing grows beyond its bound, the others agree and go on, and nobody honest is blamed.
"""

from collections import Counter, defaultdict, deque
from pathlib import Path
from random import Random
from typing import Any, Final

from msgspec.structs import replace

from committee.schedule import LeaderSchedule
from consensus.effects import Misbehaviour, Received
from consensus.messages import (
    Ack,
    BatchMessage,
    BulkMessage,
    Message,
    Proposal,
    ShownProposal,
    StateVote,
    Timeout,
    Vote,
    encode_message,
    proposal_signing_bytes,
)
from crypto.codec import DecodeError
from crypto.digest import Domain, bulk_digest
from localnet.byzantine.behaviour import Tools
from localnet.fuzz.corpus import Corpus
from localnet.fuzz.mutator import mutate, mutate_gently
from localnet.fuzz.script import Saying
from localnet.fuzz.trees import MSGPACK
from localnet.sim.faults import CrashFault
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.watchers import Watcher
from localnet.sim.schedule import Liar, Schedule, Traffic
from node.host import decode_frame
from node.transport.queues import Traffic as Channel

HOSTILE: Final = 3
BEHAVIOUR: Final = f"{Path(__file__).with_name('hostile.py')}:Hostile"
POWERS: Final = (2, 2, 2, 2)
"""Not those of the runs from which the corpus is: on one chain, what honest members signed there
would be contradicted by what they sign here."""

GENTLE: Final = 0.8
"""Of what is bent; the rest seldom is a message any more."""

LIVE_MAX_PER_KIND: Final = 6
"""Newest messages of the cluster that are bent; consensus soon refuses older ones unread."""


def make_schedule(seed: int, views: int) -> Schedule:
    """The cluster of a seed. In some an honest node starts anew, which forgives all that it held
    against the hostile member."""
    random = Random(f"hostile peer {seed}")
    crash = CrashFault(at_ms=500, duration_ms=150, host=random.randrange(HOSTILE))
    return Schedule(
        seed=seed,
        powers=POWERS,
        views=views,
        traffic=Traffic(interval_ms=40),
        liars=(Liar(member=HOSTILE, behaviour=BEHAVIOUR),),
        faults=(crash,) if random.random() < 0.3 else (),
    )


class PeerSpeaker(Watcher):
    """See the module docstring."""

    effects = (Misbehaviour,)

    def __init__(self, random: Random, corpus: Corpus) -> None:
        self._random = random
        self._corpus = corpus.select(("message.*",))
        self._live: dict[type, deque[bytes]] = defaultdict(lambda: deque(maxlen=LIVE_MAX_PER_KIND))
        self._signed_permille = random.choice((0, 500, 1_000, 1_000))
        self._changed_permille = random.choice((1_000, 1_000, 700))
        self._tools: Tools
        self._cluster: NodeCluster
        self.accepted = 0
        self.rejected: Counter[str] = Counter()

    def attach(self, cluster: NodeCluster) -> None:
        """Listen to what the member hears and says."""
        self._cluster = cluster
        cluster.world.observers.append(self)
        committee = cluster.keys.committee
        self._tools = Tools(
            member=HOSTILE,
            chain_id=cluster.chain_id,
            committee=committee,
            leaders=LeaderSchedule(committee, cluster.config.consensus.leader_seed),
            scheme=cluster.keys.scheme,
            identity_scheme=cluster.identity,
            secret=cluster.keys.secrets[HOSTILE],
            identity_secret=cluster.keys.identity_secrets[HOSTILE],
            random=self._random,
        )

    def on_sent(self, index: int, message: Message) -> None:
        if index == HOSTILE:
            self._note(message)

    def on_effect(self, index: int, effect: Any) -> None:
        if index != HOSTILE:
            self.rejected[effect.code] += 1

    def on_received(self, index: int, event: Received) -> None:
        if index == HOSTILE:
            self._note(event.message)

    def _note(self, message: Message) -> None:
        self._live[type(message)].append(encode_message(message))

    def compose(self) -> Saying | None:
        """Bend something, and sometimes sign it."""
        random = self._random
        if self._live and random.random() < 0.8:
            held = self._live[random.choice(sorted(self._live, key=lambda kind: kind.__name__))]
            frame = random.choice(held)
        else:
            frame = random.choice(self._corpus)
        if random.randrange(1_000) < self._changed_permille:
            bend = mutate_gently if random.random() < GENTLE else mutate
            frame = bend(random, frame, self._corpus, MSGPACK)
        if random.randrange(1_000) < self._signed_permille:
            frame = self._sign(frame)
        others = self._tools.others
        receivers = others if random.random() < 0.5 else (random.choice(others),)
        return Saying(0, receivers, _choose_channel(frame), frame)

    def say(self, saying: Saying) -> None:
        """Let the frame arrive, if it is one."""
        traffic = Channel.BULK if saying.channel else Channel.CONTROL
        try:
            message = decode_frame(traffic, saying.frame)
        except DecodeError as error:
            self.rejected[error.code] += 1
            return
        self.accepted += 1
        for receiver in saying.receivers:
            self._cluster.world.inject(HOSTILE, receiver, message)

    def _sign(self, frame: bytes) -> bytes:
        message = _read(frame)
        return frame if message is None else encode_message(sign_again(self._tools, message))


def _choose_channel(frame: bytes) -> int:
    """That on which such a message travels, if it is one."""
    return int(isinstance(_read(frame), BulkMessage))


def _read(frame: bytes) -> Message | None:
    for traffic in (Channel.CONTROL, Channel.BULK):
        try:
            return decode_frame(traffic, frame)
        except DecodeError:
            continue
    return None


def sign_again(tools: Tools, message: Message) -> Message:
    """The same content in this member's own name, well signed; what carries no signature of its
    sender stays as it is."""
    match message:
        case Proposal(block=block, view=view):
            return tools.sign_proposal(replace(block, author=tools.member), view)
        case ShownProposal(view, block_id):
            epoch = tools.committee.epoch
            signed = proposal_signing_bytes(tools.chain_id, epoch, view, block_id)
            return ShownProposal(view, block_id, tools.sign(signed))
        case Vote(data=data):
            return tools.sign_vote(data)
        case Timeout(data=timeout, high_qc=high_qc, last_tc=last_tc):
            return tools.sign_timeout(timeout, high_qc, last_tc)
        case StateVote(header=header):
            return tools.sign_state_vote(header)
        case Ack(data=ack):
            return Ack(ack, tools.member, tools.sign(ack.signing_bytes(tools.chain_id)))
        case BatchMessage(signed_header=signed, body=body):
            batch_header = replace(
                signed.header,
                author=tools.member,
                size_bytes=len(body),
                body_digest=bulk_digest(Domain.BATCH_BODY, body),
            )
            return BatchMessage(tools.sign_header(batch_header), body)
        case _:
            return message
