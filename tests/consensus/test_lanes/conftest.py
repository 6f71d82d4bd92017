"""A small world that hosts `Lanes`: virtual time, a lossy reordering network, disks, crashes."""

import heapq
import random
from collections import Counter, defaultdict

import pytest

from committee.committee import Committee, Member
from consensus.effects import (
    Aggregate,
    Aggregated,
    Alarm,
    BatchChecked,
    BatchStored,
    CheckBatch,
    EvidenceFound,
    LanesAdvanced,
    Misbehaviour,
    Persist,
    Received,
    Send,
    ServeBatches,
    SetTimer,
    Sign,
    Signed,
    SignIdentity,
    StoreBatch,
    TimerFired,
    Verified,
    Verify,
)
from consensus.evidence import Evidence
from consensus.lane_certificates import CERTIFICATE_TABLE
from consensus.lane_chain import LANE_START, LanePoint
from consensus.lane_limits import LanesConfig
from consensus.lane_recovery import NOTHING_RECOVERED, recover_lanes
from consensus.lanes import Lanes
from consensus.messages import Ack, BatchMessage
from consensus.types import (
    AckData,
    AvailabilityCertificate,
    BatchHeader,
    Block,
    SignedBatchHeader,
    make_genesis_qc,
)
from crypto.bitmap import encode_bitmap
from crypto.codec import decode
from crypto.digest import ZERO_DIGEST, Domain, bulk_digest
from crypto.mock import MockIdentity, MockScheme, derive_test_secret
from crypto.scheme import verify_claim

CHAIN_ID = bytes([7]) * 32
BAD_BODY = b"BAD"
"""A body that starts so contains an invalid envelope."""


class Keys:
    """A committee whose secrets are known."""

    def __init__(self, size, powers=None):
        self.scheme = MockScheme()
        self.identity = MockIdentity()
        self.secrets = [derive_test_secret(f"bls {index}") for index in range(size)]
        self.identity_secrets = [derive_test_secret(f"id {index}") for index in range(size)]
        members = tuple(
            Member(
                name=f"node-{index}",
                power=1 if powers is None else powers[index],
                consensus_key=self.scheme.public_key(secret),
                consensus_key_proof=self.scheme.prove_possession(secret),
                identity_key=self.identity.public_key(self.identity_secrets[index]),
                oracle_key=self.identity.public_key(derive_test_secret(f"oracle {index}")),
            )
            for index, secret in enumerate(self.secrets)
        )
        self.committee = Committee(epoch=0, members=members)

    def batch(self, author, sequence, parent, body, *, epoch=0, signature=None):
        """A batch by any author, as a byzantine one could make it."""
        header = BatchHeader(
            epoch, author, sequence, parent, bulk_digest(Domain.BATCH_BODY, body), len(body)
        )
        signed = SignedBatchHeader(header, bytes(64))
        if signature is None:
            message = signed.author_signing_bytes(CHAIN_ID)
            signature = self.identity.sign(self.identity_secrets[author], message)
        return BatchMessage(SignedBatchHeader(header, signature), body)

    def ack(self, signer, message):
        """An acknowledgement of that batch."""
        header = message.signed_header.header
        data = AckData(header.epoch, header.author, header.sequence, header.batch_id(CHAIN_ID))
        signature = self.scheme.sign(self.secrets[signer], data.signing_bytes(CHAIN_ID))
        return Ack(data, signer, signature)

    def certificate(self, message, signers):
        """A certificate for that batch by those signers."""
        acks = [self.ack(signer, message) for signer in signers]
        return AvailabilityCertificate(
            acks[0].data,
            encode_bitmap(signers, len(self.committee)),
            self.scheme.aggregate([ack.signature for ack in acks]),
        )

    def check(self, effect, body):
        """What the worker that carries out `CheckBatch` says."""
        header = effect.signed_header.header
        if bulk_digest(Domain.BATCH_BODY, body) != header.body_digest:
            return "batch.body_mismatch"
        message = effect.signed_header.author_signing_bytes(CHAIN_ID)
        if not self.identity.verify(effect.author_key, message, effect.signed_header.signature):
            return "batch.signature_invalid"
        return "batch.envelope_invalid" if body.startswith(BAD_BODY) else None

    def aggregate(self, effect):
        """What the worker that carries out `Aggregate` says."""
        good = [
            partial
            for partial in effect.partials
            if self.scheme.verify(partial[1], effect.message, partial[2])
        ]
        signers = tuple(partial[0] for partial in good)
        signature = self.scheme.aggregate([partial[2] for partial in good]) if good else b""
        culprits = tuple(each[0] for each in effect.partials if each not in good)
        return Aggregated(effect.token, signers, signature, culprits)


class Node:
    """One host: its disk outlives its `Lanes`."""

    def __init__(self, world, index):
        self.world = world
        self.index = index
        self.store = {}
        self.archive = {}
        self.delivered = []
        self.life = 0
        self.lanes = None
        self.committed_height = 0
        self.timers = {}
        self.misbehaviour = Counter()
        self.alarms = Counter()
        self.advanced = {}
        self.evidence = []
        self.sent = []

    @property
    def is_up(self):
        return self.lanes is not None

    def boot(self):
        """Start from what is on the disk."""
        world = self.world
        self.life += 1
        self.timers = {}
        recovered = NOTHING_RECOVERED
        if self.life > 1:
            cursors = {}
            for block in world.blocks[: len(self.delivered)]:
                for tip in block.lanes:
                    cursors[tip.data.author] = LanePoint(tip.data.sequence, tip.data.batch_id)
            batches = [
                (batch_id, message.signed_header) for batch_id, message in self.store.items()
            ]
            world.rng.shuffle(batches)
            recovered = recover_lanes(0, cursors, batches, list(self.archive.values()))
        self.lanes = Lanes(world.config, CHAIN_ID, world.keys.committee, self.index, recovered)
        self.committed_height = len(self.delivered)
        self.carry_out(self.lanes.start(world.now_ms))
        world.later(1, self.catch_up)

    def crash(self):
        """SIGKILL: whatever is under way is lost, the disk stays."""
        self.lanes = None
        self.life += 1

    def catch_up(self):
        """Learn the committed blocks, in order."""
        if not self.is_up:
            return
        while self.committed_height < len(self.world.blocks):
            block = self.world.blocks[self.committed_height]
            self.committed_height += 1
            self.carry_out(self.lanes.on_committed(self.world.now_ms, block))

    def deliver(self):
        """Hand complete blocks to execution, in order."""
        while len(self.delivered) < self.committed_height:
            height = len(self.delivered) + 1
            ids = self.lanes.delivery(height)
            if ids is None:
                return
            assert all(batch_id in self.store for batch_id in ids)
            self.delivered.append(ids)
            self.lanes.on_delivered(height)

    def handle(self, life, event):
        if self.is_up and life == self.life:
            self.carry_out(self.lanes.step(self.world.now_ms, event))
            self.deliver()

    def propose(self, body):
        if self.is_up and self.lanes.can_propose():
            self.carry_out(self.lanes.propose_batch(self.world.now_ms, body))
            return True
        return False

    def answer(self, event, least_ms=0, most_ms=4):
        life = self.life
        delay_ms = self.world.rng.randint(least_ms, most_ms)
        self.world.later(delay_ms, lambda: self.handle(life, event))

    def carry_out(self, effects):
        for effect in effects:
            self.carry_out_one(effect)

    def carry_out_one(self, effect):
        keys = self.world.keys
        match effect:
            case Send(to, message):
                self.sent.append(effect)
                for peer in to:
                    self.world.send(self.index, peer, message)
            case Sign(token, message):
                self.answer(Signed(token, keys.scheme.sign(keys.secrets[self.index], message)))
            case SignIdentity(token, message):
                secret = keys.identity_secrets[self.index]
                self.answer(Signed(token, keys.identity.sign(secret, message)))
            case StoreBatch():
                self.store_batch(effect)
            case CheckBatch():
                body = effect.body
                if body is None:
                    body = self.store[effect.batch_id].body
                self.answer(BatchChecked(effect.token, keys.check(effect, body)))
            case Verify(token, claims):
                results = tuple(verify_claim(keys.scheme, claim) for claim in claims)
                self.answer(Verified(token, results))
            case Aggregate():
                self.answer(keys.aggregate(effect))
            case ServeBatches(to, batch_ids):
                for batch_id in batch_ids:
                    if batch_id in self.store:
                        self.world.send(self.index, to, self.store[batch_id])
            case SetTimer(name, deadline_ms):
                self.set_timer(name, deadline_ms)
            case LanesAdvanced(author, sequence):
                assert sequence > self.advanced.get((self.life, author), 0)
                self.advanced[self.life, author] = sequence
            case Alarm(code):
                self.alarms[code] += 1
            case Misbehaviour(member, code):
                self.misbehaviour[member, code] += 1
            case EvidenceFound(offender, encoded):
                self.evidence.append((offender, decode(Evidence, encoded)))
            case Persist(puts=puts):
                for put in puts:
                    assert put.table == CERTIFICATE_TABLE
                    self.archive[put.key] = decode(AvailabilityCertificate, put.value)

    def store_batch(self, effect):
        life = self.life

        def finish():
            if self.life == life:
                self.store[effect.batch_id] = BatchMessage(effect.signed_header, effect.body)
                self.handle(life, BatchStored(effect.token))

        self.world.later(self.world.rng.randint(0, 6), finish)

    def set_timer(self, name, deadline_ms):
        self.timers[name] = deadline_ms
        if deadline_ms is None:
            return
        life = self.life

        def fire():
            if self.life == life and self.timers.get(name) == deadline_ms:
                del self.timers[name]
                self.handle(life, TimerFired(name))

        self.world.later(deadline_ms - self.world.now_ms, fire)


class World:
    """Nodes, a network that may lose, delay and reorder, and a stand-in for the ordering."""

    def __init__(self, size=4, seed=0, config=None, powers=None):
        self.rng = random.Random(seed)
        self.keys = Keys(size, powers)
        self.config = LanesConfig() if config is None else config
        self.now_ms = 0
        self.loss_percent = 0
        self.latency_ms = (1, 3)
        self.blocks = []
        self.puppets = set()
        self.acked = defaultdict(set)
        self._queue = []
        self._count = 0
        self.nodes = [Node(self, index) for index in range(size)]

    def boot(self):
        for node in self.nodes:
            if node.index not in self.puppets:
                node.boot()

    def live(self):
        return [node for node in self.nodes if node.is_up]

    def later(self, delay_ms, action):
        self._count += 1
        heapq.heappush(self._queue, (self.now_ms + max(0, delay_ms), self._count, action))

    def send(self, sender, to, message):
        """Put a message on the wire, and note every acknowledgement ever sent."""
        if isinstance(message, Ack):
            self.acked[sender, message.data.author, message.data.sequence].add(
                message.data.batch_id
            )
        if self.rng.randrange(100) < self.loss_percent:
            return
        node = self.nodes[to]
        life = node.life
        delay_ms = self.rng.randint(*self.latency_ms)
        self.later(delay_ms, lambda: node.handle(life, Received(sender, message)))

    def run(self, duration_ms):
        end_ms = self.now_ms + duration_ms
        while self._queue and self._queue[0][0] <= end_ms:
            self.now_ms, _, action = heapq.heappop(self._queue)
            action()
        self.now_ms = end_ms

    def is_quiet(self):
        return not self._queue

    def make_block(self, tips):
        """Commit a block with these tips, and tell every node that is up."""
        qc = make_genesis_qc(CHAIN_ID, self.keys.committee)
        height = len(self.blocks) + 1
        block = Block(
            epoch=0,
            height=height,
            view=height,
            author=0,
            parent_id=ZERO_DIGEST,
            time_ms=height,
            lanes=tuple(tips),
            inbox=(),
            openings=b"",
            evidence=(),
            state_certificate=None,
            qc=qc,
            tc=None,
        )
        self.blocks.append(block)
        for node in self.nodes:
            self.later(self.rng.randint(0, 5), node.catch_up)

    def commit_from(self, node):
        """Commit the tips that a node would propose, each above the last committed one."""
        cursors = {}
        for block in self.blocks:
            for tip in block.lanes:
                cursors[tip.data.author] = tip.data.sequence
        tips = [
            tip
            for author, tip in node.lanes.certified_tips().items()
            if tip.data.sequence > cursors.get(author, 0)
        ]
        if tips:
            self.make_block(tips)
        return len(tips)

    def check_safety(self):
        """What must hold at every moment of every run."""
        for ids in self.acked.values():
            assert len(ids) == 1, "a member acknowledged two batches at one sequence"
        longest = max((node.delivered for node in self.nodes), key=len)
        for node in self.nodes:
            assert node.delivered == longest[: len(node.delivered)]


@pytest.fixture
def make_world():
    return World


@pytest.fixture
def make_keys():
    return Keys


@pytest.fixture
def chain_id():
    return CHAIN_ID


@pytest.fixture
def lane_start():
    return LANE_START
