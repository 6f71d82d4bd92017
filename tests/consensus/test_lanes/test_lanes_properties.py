"""Whatever the network, the crashes and one byzantine author do: the lanes' promises hold."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consensus.messages import BatchMessage, LaneCertificate
from crypto.digest import ZERO_DIGEST

PROPERTY = settings(
    max_examples=12,
    deadline=None,
    # The fixtures only hand out classes and constants; nothing leaks between examples.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def storm(world, steps, *, crashes, byzantine=None):
    """Propose, commit, lose, reorder and kill for a while; safety is looked at all the time."""
    rng = world.rng
    world.loss_percent = rng.choice((0, 10, 40))
    world.latency_ms = (1, rng.choice((3, 30, 150)))
    for _ in range(steps):
        live = world.live()
        action = rng.randrange(20)
        if action < 10 and live:
            rng.choice(live).propose(b"body %d" % rng.randrange(10**6))
        elif action < 13 and live:
            world.commit_from(rng.choice(live))
        elif action < 15 and crashes:
            node = rng.choice(world.nodes)
            if node.index in world.puppets:
                continue
            if node.is_up:
                node.crash()
            else:
                node.boot()
        elif action < 17 and byzantine is not None:
            byzantine()
        world.run(rng.randint(1, 30))
        world.check_safety()


def heal(world):
    """Everybody up, nothing lost any more; long enough for every retry to have come round."""
    world.loss_percent = 0
    world.latency_ms = (1, 10)
    for node in world.nodes:
        if not node.is_up and node.index not in world.puppets:
            node.boot()
        node.catch_up()
    world.run(15_000)


def check_converged(world):
    """Every honest batch is certified everywhere, and everything committed is delivered."""
    honest = world.live()
    for author in honest:
        newest = author.lanes._author.newest
        for node in honest:
            tip = node.lanes.certified_tips().get(author.index)
            cursor = node.lanes.cursor(author.index)
            certified = cursor if tip is None else (tip.data.sequence, tip.data.batch_id)
            assert tuple(certified) == tuple(newest)
    for node in honest:
        assert len(node.delivered) == len(world.blocks)
        assert node.delivered == honest[0].delivered
    world.check_safety()


@pytest.mark.parametrize("size", [1, 4, 7])
@PROPERTY
@given(seed=st.integers(0, 2**32))
def test_after_healing_every_batch_is_certified_and_delivered_alike(make_world, size, seed):
    world = make_world(size, seed)
    world.boot()
    storm(world, 60, crashes=False)
    heal(world)
    check_converged(world)


@pytest.mark.parametrize("size", [4, 7])
@PROPERTY
@given(seed=st.integers(0, 2**32))
def test_the_same_holds_when_nodes_are_killed_and_restarted(make_world, size, seed):
    world = make_world(size, seed)
    world.boot()
    storm(world, 60, crashes=True)
    heal(world)
    check_converged(world)
    assert not any(node.evidence for node in world.nodes)


@PROPERTY
@given(seed=st.integers(0, 2**32), powers=st.lists(st.integers(1, 10), min_size=4, max_size=6))
def test_the_same_holds_with_unequal_power(make_world, seed, powers):
    world = make_world(len(powers), seed, powers=powers)
    world.boot()
    storm(world, 40, crashes=True)
    heal(world)
    check_converged(world)


class Equivocator:
    """Member 3 signs several batches at each sequence, tells different stories to different
    members, acknowledges whatever suits it, and certifies whatever it can."""

    def __init__(self, world, chain_id):
        self.world = world
        self.chain_id = chain_id
        self.branches = [(0, ZERO_DIGEST, None)]
        self.puppet = world.nodes[3]

    def __call__(self):
        rng = self.world.rng
        sequence, parent, _ = rng.choice(self.branches[-6:])
        body = b"lie %d" % rng.randrange(10**6)
        if rng.randrange(8) == 0:
            body = b"BAD" + body
        message = self.world.keys.batch(3, sequence + 1, parent, body)
        batch_id = message.signed_header.header.batch_id(self.chain_id)
        self.branches.append((sequence + 1, batch_id, message))
        for node in rng.sample(self.world.nodes[:3], rng.randint(1, 3)):
            self.world.send(3, node.index, message)
        self.certify()

    def certify(self):
        """Form every certificate for which one honest member gave its acknowledgement."""
        for sequence, batch_id, message in self.branches[1:]:
            for signer in range(3):
                if batch_id in self.world.acked.get((signer, 3, sequence), ()):
                    certificate = self.world.keys.certificate(message, (signer, 3))
                    node = self.world.rng.choice(self.world.nodes[:3])
                    self.world.send(3, node.index, LaneCertificate(certificate))


@PROPERTY
@given(seed=st.integers(0, 2**32), crashes=st.booleans())
def test_an_equivocating_author_makes_no_two_nodes_deliver_differently(
    make_world, chain_id, seed, crashes
):
    world = make_world(4, seed)
    world.puppets = {3}
    world.boot()
    storm(world, 80, crashes=crashes, byzantine=Equivocator(world, chain_id))
    heal(world)
    check_converged(world)
    for node in world.live():
        assert {member for member, _ in node.misbehaviour} <= {3}
        # A liar's bad batch may be on the disk when the node is killed, and is found there later.
        assert set(node.alarms) <= {"lane.stored_batch_invalid"}
        assert all(offender == 3 for offender, _ in node.evidence)


@PROPERTY
@given(seed=st.integers(0, 2**32))
def test_every_certified_batch_is_in_the_store_of_an_honest_signer(make_world, chain_id, seed):
    world = make_world(4, seed)
    world.puppets = {3}
    world.boot()
    storm(world, 60, crashes=True, byzantine=Equivocator(world, chain_id))
    for (signer, author, sequence), ids in world.acked.items():
        store = world.nodes[signer].store
        [batch_id] = ids
        cursor = max(
            (
                tip.data.sequence
                for block in world.blocks
                for tip in block.lanes
                if tip.data.author == author
            ),
            default=0,
        )
        while sequence > cursor:
            batch = store[batch_id]
            assert isinstance(batch, BatchMessage)
            assert not batch.body.startswith(b"BAD")
            batch_id = batch.signed_header.header.parent
            sequence -= 1
