"""Hostile clients against a whole cluster: bent requests at every door, some of them well signed.

They go through the function with which a door reads requests (`node.door.decode_request`). What a
client sends must never stop a node, and never bring blame upon the member that carries it.
"""

from collections import Counter
from random import Random
from typing import Any, Final

from msgspec.structs import replace

from crypto.codec import DecodeError, encode
from localnet.fuzz.corpus import Corpus
from localnet.fuzz.mutator import mutate, mutate_gently
from localnet.fuzz.script import Saying
from localnet.fuzz.trees import MSGPACK
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.watchers import Watcher
from localnet.sim.schedule import Schedule, Traffic
from mempool.envelope import (
    ENVELOPE_SIZE_MAX_BYTES,
    BodyKind,
    Envelope,
    compute_body_digest,
    decode_envelope,
)
from node.door import decode_request
from node.events import EnvelopesSubmitted, OpaqueSubmitted, SubmitReply
from node.protocol import ENVELOPES_MAX_PER_REQUEST, SubmitEnvelopes, SubmitOpaque

MEMBERS: Final = (0, 1, 2, 3)
GENTLE: Final = 0.8
"""Of what is bent and signed; the rest seldom is a bundle any more."""

SIGNED_PERMILLE: Final = 700

REQUEST_FIRST: Final = 1 << 32
"""Beyond the requests of the cluster's own traders, so that no two have one number."""


def make_schedule(seed: int, views: int) -> Schedule:
    """The cluster of a seed: nobody lies, nothing breaks."""
    return Schedule(seed=seed, views=views, traffic=Traffic(interval_ms=60))


class ClientSpeaker(Watcher):
    """See the module docstring."""

    effects = (SubmitReply,)

    def __init__(self, random: Random, corpus: Corpus) -> None:
        self._random = random
        self._requests = corpus.select(("door_request.submit*",))
        self._envelopes = corpus.select(("envelope.*",))
        self._bodies = {
            BodyKind.PLAIN: corpus.select(("instruction.*", "bundle")),
            BodyKind.KEYS: corpus.select(("keys", "key_change.*")),
        }
        self._count = REQUEST_FIRST
        self._cluster: NodeCluster
        self.accepted = 0
        self.rejected: Counter[str] = Counter()

    def attach(self, cluster: NodeCluster) -> None:
        """Hear what the nodes answer."""
        self._cluster = cluster
        cluster.world.observers.append(self)

    def on_effect(self, index: int, effect: Any) -> None:
        for result in effect.results:
            if result.code is not None:
                self.rejected[result.code] += 1

    def compose(self) -> Saying | None:
        """A bent request, or a request with envelopes that were bent and signed."""
        random = self._random
        if random.randrange(1_000) < SIGNED_PERMILLE:
            envelopes = tuple(self._sign() for _ in range(random.choice((1, 1, 3))))
            frame = encode(SubmitEnvelopes(1, envelopes[:ENVELOPES_MAX_PER_REQUEST]))
        else:
            request = random.choice(self._requests)
            frame = mutate(random, request, self._envelopes, MSGPACK)
        receivers = MEMBERS if random.random() < 0.2 else (random.choice(MEMBERS),)
        return Saying(0, receivers, 0, frame)

    def say(self, saying: Saying) -> None:
        """Hand it in at some doors."""
        try:
            request = decode_request(saying.frame)
        except DecodeError as error:
            self.rejected[error.code] += 1
            return
        self.accepted += 1
        for receiver in saying.receivers:
            self._count += 1
            match request:
                case SubmitEnvelopes(envelopes=envelopes):
                    self._note_expiries(envelopes)
                    event = EnvelopesSubmitted(receiver, self._count, envelopes)
                    self._cluster.world.tell(receiver, event)
                case SubmitOpaque(_, namespace, size_bytes, data):
                    opaque = OpaqueSubmitted(receiver, self._count, namespace, size_bytes, data)
                    self._cluster.world.tell(receiver, opaque)
                case _:
                    pass

    def _note_expiries(self, envelopes: tuple[bytes, ...]) -> None:
        """The oracles ask until when each envelope is good."""
        for data in envelopes:
            try:
                header = decode_envelope(data).header
            except DecodeError:
                continue
            self._cluster.expiries.setdefault(header.envelope_id(), header.expiry_height)

    def _sign(self) -> bytes:
        """An envelope of one of the accounts with a bent body or a bent header, and a signature
        that holds."""
        random, cluster = self._random, self._cluster
        secret = random.choice((*cluster.accounts, *cluster.oracles))
        envelope = decode_envelope(cluster.make_envelope(secret, []))
        kind = random.choice((BodyKind.PLAIN, BodyKind.PLAIN, BodyKind.PLAIN, BodyKind.KEYS))
        donors = self._bodies[kind]
        body = random.choice(donors)
        if random.random() < 0.8:
            bend = mutate_gently if random.random() < GENTLE else mutate
            body = bend(random, body, donors, MSGPACK)
        body = body[: ENVELOPE_SIZE_MAX_BYTES // 2] or b"\x90"
        header = replace(
            envelope.header,
            kind=kind if random.random() < 0.95 else BodyKind.SEALED,
            body_digest=compute_body_digest(body),
            body_size_bytes=len(body),
            expiry_height=random.choice((1, 20, 1_000, 100_000, 2**63 - 1)),
            nonce=random.choice((*[envelope.header.nonce] * 8, 0, 1, 2**63 - 1, 1_000)),
        )
        signature = cluster.identity.sign(secret, header.signing_bytes())
        return encode(Envelope(header, signature, body))
