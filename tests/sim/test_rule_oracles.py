"""The oracles that know the rules by heart accept what is good and name what is wrong."""

import pytest
from msgspec.structs import replace

from consensus.effects import Persist, Put, Sign, Store, StoreBatch, Token, compute_key
from consensus.messages import Advance, Vote
from consensus.types import QC, TC, AckData, BatchHeader, Block, SignedBatchHeader
from crypto.codec import encode
from engine.instructions import PlaceOrder, Side
from localnet.sim.keys import CHAIN_ID, Keys
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.ancestry import Ancestry
from localnet.sim.oracles.bounds import BoundExceededError, MemoryBounds, compute_bounds, measure
from localnet.sim.oracles.certificates import Judge
from localnet.sim.oracles.delivery import find_overtaken
from localnet.sim.oracles.rulebook import Finality
from localnet.sim.oracles.signing import SignatureRequests
from localnet.sim.scenario import HEAL_VIEWS_MAX, run_schedule, view_of
from localnet.sim.schedule import Liar, Schedule
from localnet.sim.traders import BASE_PRICE_TICKS, MARKET
from mempool.envelope import decode_envelope
from mempool.nonce import NONCE_WINDOW

KEYS = Keys()
GENESIS = KEYS.genesis
FIRST = KEYS.make_block(1, GENESIS)
FIRST_QC = KEYS.make_qc(FIRST)


def make_judge(keys: Keys = KEYS) -> Judge:
    members = keys.committee.members
    return Judge(
        CHAIN_ID, keys.committee.powers, [each.consensus_key for each in members], keys.scheme
    )


def test_what_honest_members_make_is_good() -> None:
    judge = make_judge()
    judge.judge_qc(GENESIS)
    judge.judge_qc(KEYS.make_qc(FIRST, signers=(0, 2, 3)))
    tc = KEYS.make_tc(3, FIRST_QC, [((0,), 0, 0), ((1, 2), 1, 0)])
    judge.judge_tc(tc)
    judge.judge_block(KEYS.make_block(4, FIRST_QC, tc=tc, lanes=(KEYS.certify_lane(1, 5),)))
    judge.judge_state(KEYS.certify_state(3, FIRST_QC.block_id))


def test_who_leads_is_computed_alike() -> None:
    keys = Keys((5, 4, 3, 3), leader_seed=b"any")
    judge = Judge(CHAIN_ID, (5, 4, 3, 3), [b""] * 4, keys.scheme, b"any")
    views = range(1, 200)
    assert [judge.find_leader(view) for view in views] == [keys.schedule.leader(v) for v in views]


BAD_QCS = {
    "no quorum": KEYS.make_qc(FIRST, signers=(0, 1)),
    "did not sign": replace(FIRST_QC, data=replace(FIRST_QC.data, view=9)),
    "not the one of genesis": replace(GENESIS, data=replace(GENESIS.data, height=4)),
    "epoch 1": replace(FIRST_QC, data=replace(FIRST_QC.data, epoch=1)),
    "does not exist": replace(FIRST_QC, signers=bytes([0b10111])),
    "bytes for 4": replace(FIRST_QC, signers=FIRST_QC.signers + b"\0"),
}


@pytest.mark.parametrize("complaint", BAD_QCS)
def test_a_bad_qc_is_named(complaint: str) -> None:
    qc: QC = BAD_QCS[complaint]
    with pytest.raises(AssertionError, match=complaint):
        make_judge().judge_qc(qc)


BAD_TCS = {
    "counted twice": KEYS.make_tc(3, FIRST_QC, [((0, 1), 0, 0), ((1, 2), 1, 0)]),
    "do not rise": KEYS.make_tc(3, FIRST_QC, [((0, 1), 1, 0), ((2, 3), 0, 0)]),
    "no quorum": KEYS.make_tc(3, FIRST_QC, [((0, 1), 1, 0)]),
    "not the newest": KEYS.make_tc(5, FIRST_QC, [((0,), 1, 0), ((1, 2), 4, 0)]),
    "empty group": KEYS.make_tc(3, FIRST_QC),
    "epoch 7": replace(KEYS.make_tc(3, FIRST_QC), epoch=7),
}
BAD_TCS["empty group"] = replace(
    BAD_TCS["empty group"],
    groups=(replace(BAD_TCS["empty group"].groups[0], signers=bytes(1)),),
)


@pytest.mark.parametrize("complaint", BAD_TCS)
def test_a_bad_tc_is_named(complaint: str) -> None:
    tc: TC = BAD_TCS[complaint]
    with pytest.raises(AssertionError, match=complaint):
        make_judge().judge_tc(tc)


OLD_TC = KEYS.make_tc(3, FIRST_QC)
BAD_BLOCKS = {
    "leads not": KEYS.make_block(2, FIRST_QC, author=(KEYS.schedule.leader(2) + 1) % 4),
    "without a TC": KEYS.make_block(4, FIRST_QC),
    "another parent": replace(KEYS.make_block(2, FIRST_QC), parent_id=GENESIS.block_id),
    "height 9": replace(KEYS.make_block(2, FIRST_QC), height=9),
    "the TC of view 3": KEYS.make_block(5, FIRST_QC, tc=OLD_TC),
    "older than what the TC names": KEYS.make_block(4, GENESIS, tc=OLD_TC),
    "says nothing": KEYS.make_block(2, FIRST_QC, tc=OLD_TC),
    "lanes repeat": KEYS.make_block(
        2, FIRST_QC, lanes=(KEYS.certify_lane(2, 1), KEYS.certify_lane(1, 1))
    ),
}


@pytest.mark.parametrize("complaint", BAD_BLOCKS)
def test_a_bad_block_is_named(complaint: str) -> None:
    block: Block = BAD_BLOCKS[complaint]
    with pytest.raises(AssertionError, match=complaint):
        make_judge().judge_block(block)


def test_availability_and_state_need_their_power() -> None:
    judge = make_judge()
    lane, state = KEYS.certify_lane(1, 5), KEYS.certify_state(3, FIRST_QC.block_id)
    with pytest.raises(AssertionError, match="too few"):
        judge.judge_availability(replace(lane, signers=bytes([1])))
    with pytest.raises(AssertionError, match="no quorum"):
        judge.judge_state(replace(state, signers=bytes([0b11])))


LANE, STATE = KEYS.certify_lane(0, 3), KEYS.certify_state(1, FIRST.block_id(CHAIN_ID))
SECOND = KEYS.make_block(2, FIRST_QC, time_ms=50, lanes=(LANE,))
THIRD = KEYS.make_block(3, KEYS.make_qc(SECOND), time_ms=60, state_certificate=STATE)
FOURTH = KEYS.make_block(4, KEYS.make_qc(THIRD), time_ms=70)
BAD_CHILDREN = {
    "not a child's": replace(FOURTH, height=3),
    "not above its parent's 3": replace(FOURTH, view=3),
    "no later than its parent": replace(FOURTH, time_ms=60),
    "orders lane 0 up to 3 again": replace(FOURTH, lanes=(LANE,)),
    "a result that is no newer": replace(FOURTH, state_certificate=STATE),
    "a result of height 9": replace(FOURTH, state_certificate=KEYS.certify_state(9, bytes(32))),
    "a result of another chain": replace(
        FOURTH, state_certificate=KEYS.certify_state(2, FIRST.block_id(CHAIN_ID))
    ),
    "orders more, 3 heights after": replace(FOURTH, lanes=(KEYS.certify_lane(0, 4),)),
}


@pytest.mark.parametrize("complaint", BAD_CHILDREN)
def test_a_block_that_does_not_fit_its_ancestors_is_named(complaint: str) -> None:
    oracle = Ancestry(make_judge(), CHAIN_ID, lag_max_blocks=2, genesis_time_ms=0)

    def take(host: int, block: Block, tables: tuple[str, str] = ("vote", "pending_block")) -> None:
        puts = tuple(Put(table, b"", encode(block)) for table in tables)
        oracle.on_effect(host, Persist(Token("test", 1), Store.SAFETY, puts))

    take(0, FIRST)
    take(1, SECOND, ("block", "tip"))
    take(0, THIRD)
    bad: Block = BAD_CHILDREN[complaint]
    take(0, bad, ("proposal", "pending_block"))  # What it votes for is what it answers for.
    with pytest.raises(AssertionError, match=complaint):
        take(0, bad)
    take(0, FOURTH)


def test_a_commit_over_a_gap_of_views_is_not_final() -> None:
    """The rule that Fast-HotStuff lacked: the child's certificate must be of the next view."""
    finality = Finality(make_judge(), CHAIN_ID, range(4))

    def keep(block: Block) -> None:
        key = compute_key(block.height) + block.block_id(CHAIN_ID)
        put = Put("pending_block", key, encode(block))
        finality.on_durable(0, Persist(Token("test", 1), Store.SAFETY, (put,)))

    def vote(block: Block) -> None:
        for member in range(3):
            finality.on_sent(member, Vote(KEYS.make_vote_data(block), member, bytes(96)))

    puts = (
        Put("block", compute_key(1), encode(FIRST)),
        Put("commit", compute_key(1), encode(FIRST_QC)),
    )
    commit = Persist(Token("test", 2), Store.ARCHIVE, puts)
    late = KEYS.make_block(3, FIRST_QC, tc=KEYS.make_tc(2, FIRST_QC))
    keep(late)
    vote(late)
    with pytest.raises(AssertionError, match="nobody can have certified a child in view 2"):
        finality.on_effect(0, commit)
    direct = KEYS.make_block(2, FIRST_QC)
    keep(direct)
    vote(direct)
    finality.on_effect(0, commit)


def test_all_that_is_measured_is_bounded_and_a_breach_is_reported() -> None:
    cluster = NodeCluster(1)
    memory = MemoryBounds(cluster)
    cluster.start()
    cluster.trade(40, 500)
    cluster.run(1_000)
    assert measure(cluster.core(0)).keys() == compute_bounds(cluster.config, 4).keys()
    assert memory.highest["links"] > 0
    memory.bounds["links"] = 0
    with pytest.raises(BoundExceededError, match="links, bound 0"):
        memory.check()


def test_an_advance_belongs_to_the_view_that_it_opens() -> None:
    assert view_of(Advance(FIRST_QC, None)) == 2
    assert view_of(Advance(FIRST_QC, OLD_TC)) == 4


def test_progress_after_healing_takes_few_views(monkeypatch) -> None:
    schedule = Schedule(seed=1, views=6, liars=(Liar(member=1, behaviour="silent"),))
    assert run_schedule(schedule).violation is None
    monkeypatch.setattr("localnet.sim.scenario.HEAL_VIEWS_MAX", 0)
    violation = run_schedule(schedule).violation
    assert violation is not None
    assert violation.oracle == "liveness"
    assert "views after healing" in violation.detail
    assert HEAL_VIEWS_MAX == 60


def request_signatures(*effects: object) -> None:
    oracle = SignatureRequests(CHAIN_ID)
    oracle.on_start(0)
    for effect in effects:
        oracle.on_effect(0, effect)


def make_batch(body_digest: bytes) -> tuple[StoreBatch, Sign]:
    """Batch 5 of lane 1, and the acknowledgement of it."""
    signed = SignedBatchHeader(BatchHeader(0, 1, 5, bytes(32), body_digest, 1), bytes(64))
    batch_id = signed.header.batch_id(CHAIN_ID)
    ack = AckData(0, 1, 5, batch_id).signing_bytes(CHAIN_ID)
    return StoreBatch(Token("test", 1), batch_id, signed, b"x"), Sign(Token("test", 2), ack)


def make_vote(block: Block) -> tuple[Persist, Sign]:
    data = KEYS.make_vote_data(block)
    puts = (Put("vote", compute_key(data.view), encode(data)),)
    record = Persist(Token("test", 1), Store.SAFETY, puts)
    return record, Sign(Token("test", 2), data.signing_bytes(CHAIN_ID))


def test_one_content_may_be_signed_again_and_no_second_one() -> None:
    store, ack = make_batch(bytes(32))
    rival_store, rival_ack = make_batch(bytes([1]) * 32)
    record, vote = make_vote(FIRST)
    rival_record, rival_vote = make_vote(replace(FIRST, time_ms=FIRST.time_ms + 1))
    request_signatures(store, rival_store, ack, ack, record, vote, rival_record, vote)
    for requests in (
        (store, rival_store, ack, rival_ack),
        (record, rival_record, vote, rival_vote),
    ):
        with pytest.raises(AssertionError, match="two contents signed"):
            request_signatures(*requests)
    for requests in ((ack,), (vote,), (store, vote)):
        with pytest.raises(AssertionError, match="none of its records explains"):
            request_signatures(*requests)


def test_what_was_durable_binds_the_next_life_and_what_was_lost_does_not() -> None:
    record, vote = make_vote(FIRST)
    rival_record, rival_vote = make_vote(replace(FIRST, time_ms=FIRST.time_ms + 1))
    for is_durable in (False, True):
        oracle = SignatureRequests(CHAIN_ID)
        oracle.on_start(0)
        for effect in (record, vote):
            oracle.on_effect(0, effect)
        if is_durable:
            oracle.on_durable(0, record)
        oracle.on_start(0)
        oracle.on_effect(0, rival_record)
        if not is_durable:
            oracle.on_effect(0, rival_vote)
            with pytest.raises(AssertionError, match="none of its records explains"):
                oracle.on_effect(0, vote)
            continue
        with pytest.raises(AssertionError, match="held to another vote 1"):
            oracle.on_effect(0, rival_vote)


def test_a_client_that_uses_a_nonce_twice_is_refused_once_and_that_is_no_loss() -> None:
    cluster = NodeCluster(4)
    secret = cluster.accounts[0]
    first = cluster.make_envelope(secret, [PlaceOrder(MARKET, Side.BUY, BASE_PRICE_TICKS, 1)])
    cluster._nonces -= 1
    second = cluster.make_envelope(secret, [PlaceOrder(MARKET, Side.BUY, BASE_PRICE_TICKS, 2)])
    cluster.genuine.clear()
    cluster.start()
    cluster.submit(first, 0)
    cluster.submit(second, 1)
    cluster.run(500)
    cluster.come_to_rest()
    passed, ordered = cluster.order.passed, cluster.order.ordered
    assert len(ordered) == 2
    assert len(passed) == 1
    (refused,) = ordered.keys() - passed.keys()
    headers = {
        each.envelope_id(): each
        for each in (decode_envelope(first).header, decode_envelope(second).header)
    }
    cluster.genuine.update(headers)
    with pytest.raises(AssertionError, match="and not executed"):
        cluster.come_to_rest()
    # What somebody else signed with the same key may spend the nonce of one of ours.
    del cluster.genuine[next(iter(passed))]
    cluster.come_to_rest()
    cluster.genuine.clear()
    del cluster.world.disk(2).table(Store.ARCHIVE, "refused")[refused]
    with pytest.raises(AssertionError, match="and refused for"):
        cluster.come_to_rest()


def test_a_nonce_that_more_than_a_window_of_its_key_overtook_is_no_loss_and_one_less_is() -> None:
    cluster = NodeCluster(4)
    order = [PlaceOrder(MARKET, Side.BUY, BASE_PRICE_TICKS, 1)]
    overtaken, *others = (
        cluster.make_envelope(cluster.accounts[0], order) for _ in range(NONCE_WINDOW + 2)
    )
    # Two of four make batches available and commit nothing: what they took waits for one block,
    # in which the first lane comes before the last.
    cluster.start(0, 3)
    cluster.submit(overtaken, 3)
    for envelope in others:
        cluster.submit(envelope, 0)
    cluster.run(500)
    cluster.settle()
    ordered, passed = cluster.order.ordered, cluster.order.passed
    assert len(ordered) == NONCE_WINDOW + 2
    (refused,) = ordered.keys() - passed.keys()
    assert refused == decode_envelope(overtaken).header.envelope_id()

    def judge() -> None:
        cluster.delivery.validate(
            cluster.running(), ordered[refused], cluster.order, cluster.expiries, cluster.genuine
        )

    judge()
    archived = cluster.world.disk(2).table(Store.ARCHIVE, "refused")
    code = archived.pop(refused)
    for other in ({}, {refused: b"fee.insufficient"}):
        archived.update(other)
        with pytest.raises(AssertionError, match="overtaken, and refused for"):
            judge()
    archived[refused] = code
    # Lower nonces, other keys and what lies behind it in the order excuse nothing.
    first = decode_envelope(others[0]).header
    for change in ({"nonce": 1}, {"signer": cluster.accounts[1]}):
        cluster.genuine[first.envelope_id()] = replace(first, **change)
        with pytest.raises(AssertionError, match="and not executed"):
            judge()
    cluster.genuine[first.envelope_id()] = first
    judge()
    ordered[first.envelope_id()] = passed[first.envelope_id()] = ordered[refused] + 1
    assert not find_overtaken(cluster.order, cluster.genuine)
