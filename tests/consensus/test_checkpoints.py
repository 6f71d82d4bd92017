"""State votes become certificates; contradictions stop a node or raise an alarm."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from committee.committee import Committee, Member
from consensus.backoff import DOUBLINGS_MAX, compute_doubling_wait_ms
from consensus.checkpoints import (
    CERTIFIED_HEADERS_MAX,
    CHECKPOINT_INTERVAL,
    OWN_HEADERS_MAX,
    VOTE_WINDOW_HEIGHTS,
    Checkpoints,
    RecoveredCheckpoints,
    is_checkpoint,
)
from consensus.effects import (
    Aggregate,
    Aggregated,
    Alarm,
    EvidenceFound,
    Halt,
    Misbehaviour,
    Persist,
    Received,
    Send,
    SetTimer,
    Sign,
    Signed,
    StateCertified,
    Store,
    TimerFired,
    Verified,
    Verify,
)
from consensus.evidence import (
    EvidenceError,
    decode_evidence,
    make_double_state_vote,
    validate_evidence,
    verify_evidence,
)
from consensus.messages import StateVote
from consensus.state_signer import (
    RESEND_MS,
    RESEND_TIMER,
    STATE_VOTE_TABLE,
    VOTE_RETENTION_HEIGHTS,
    VOTES_RESENT_MAX,
)
from consensus.state_votes import HeightVotes
from consensus.types import (
    AckData,
    AvailabilityCertificate,
    Block,
    CheckpointHeader,
    StateCertificate,
    make_genesis_qc,
)
from crypto.bitmap import decode_bitmap, encode_bitmap
from crypto.codec import decode
from crypto.digest import ZERO_DIGEST, Domain, digest
from crypto.mock import MockIdentity, MockScheme, derive_test_secret
from crypto.scheme import Claim, verify_claim

CHAIN_ID = bytes([9]) * 32
SCHEME = MockScheme()
IDENTITY = MockIdentity()
SECRETS = [derive_test_secret(f"bls {index}") for index in range(7)]


def make_committee(size=4):
    return Committee(
        epoch=0,
        members=tuple(
            Member(
                name=f"node-{index}",
                power=1,
                consensus_key=SCHEME.public_key(SECRETS[index]),
                consensus_key_proof=SCHEME.prove_possession(SECRETS[index]),
                identity_key=IDENTITY.public_key(derive_test_secret(f"id {index}")),
                oracle_key=IDENTITY.public_key(derive_test_secret(f"oracle {index}")),
            )
            for index in range(size)
        ),
    )


def make_header(height, result=b"right"):
    root = digest(Domain.STATE, height.to_bytes(8, "big"), result)
    return CheckpointHeader(0, height, ZERO_DIGEST, height, root, root, root)


def make_vote(author, header, *, secret=None):
    secret = SECRETS[author] if secret is None else secret
    return StateVote(header, author, SCHEME.sign(secret, header.signing_bytes(CHAIN_ID)))


def make_certificate(header, signers=(0, 1, 2), size=4):
    signatures = [make_vote(signer, header).signature for signer in signers]
    return StateCertificate(header, encode_bitmap(signers, size), SCHEME.aggregate(signatures))


def aggregate(effect):
    good = [each for each in effect.partials if SCHEME.verify(each[1], effect.message, each[2])]
    return Aggregated(
        effect.token,
        tuple(each[0] for each in good),
        SCHEME.aggregate([each[2] for each in good]) if good else b"",
        tuple(each[0] for each in effect.partials if each not in good),
    )


class Host:
    """Carries out the effects of one node at once, and keeps what leaves it."""

    def __init__(self, index=0, size=4, recovered=None):
        self.index = index
        self.size = size
        self.committee = make_committee(size)
        self.table = {}
        self.persists = []
        self.certified = []
        self.halts = []
        self.evidence = []
        self.alarms = []
        self.misbehaviour = Counter()
        self.outbox = []
        self.deadline_ms = None
        self.now_ms = 0
        arguments = () if recovered is None else (recovered,)
        self.core = Checkpoints(CHAIN_ID, self.committee, index, *arguments)
        self.carry_out(self.core.start(0))

    def step(self, event):
        self.carry_out(self.core.step(self.now_ms, event))

    def execute(self, header):
        self.carry_out(self.core.on_executed(self.now_ms, header))

    def learn(self, certificate):
        self.carry_out(self.core.on_block_certificate(self.now_ms, certificate))

    def receive(self, *votes):
        for vote in votes:
            self.step(Received(vote.author, vote))

    def fire(self):
        self.now_ms = max(self.now_ms, self.deadline_ms or self.now_ms)
        self.step(TimerFired(RESEND_TIMER))

    def carry_out(self, effects):
        for effect in effects:
            match effect:
                case Persist(store=store, puts=puts):
                    assert store is Store.SAFETY
                    self.persists.append(effect)
                    for put in puts:
                        assert put.table == STATE_VOTE_TABLE
                        assert self.table.setdefault(put.key, put.value) == put.value
                case Sign(token, message):
                    self.step(Signed(token, SCHEME.sign(SECRETS[self.index], message)))
                case Send(to, message, after):
                    assert set(after) <= {persist.token for persist in self.persists}
                    self.outbox.append(message)
                    if self.index in to:
                        self.step(Received(self.index, message))
                case Aggregate():
                    self.step(aggregate(effect))
                case Verify(token, claims):
                    self.step(Verified(token, tuple(verify_claim(SCHEME, each) for each in claims)))
                case StateCertified(certificate):
                    self.certified.append(certificate)
                case Misbehaviour(member, code):
                    self.misbehaviour[member, code] += 1
                case EvidenceFound():
                    self.evidence.append(effect)
                case Alarm(code):
                    self.alarms.append(code)
                case Halt(code):
                    self.halts.append(code)
                case SetTimer(_, deadline_ms):
                    self.deadline_ms = deadline_ms


def make_block(height, lanes=()):
    qc = make_genesis_qc(CHAIN_ID, make_committee())
    return Block(0, height, 1, 0, ZERO_DIGEST, 1, lanes, (), b"", (), None, qc, None)


def test_blocks_with_batches_and_every_sixteenth_height_are_checkpoints():
    tip = AvailabilityCertificate(AckData(0, 0, 1, ZERO_DIGEST), b"\x01", bytes(96))
    assert is_checkpoint(make_block(3, (tip,)))
    assert not is_checkpoint(make_block(3))
    assert is_checkpoint(make_block(CHECKPOINT_INTERVAL))


def test_a_vote_is_recorded_before_it_is_signed_and_names_its_record_when_sent():
    core = Checkpoints(CHAIN_ID, make_committee(), 1)
    header = make_header(16)
    [persist, sign] = core.on_executed(0, header)
    assert decode(CheckpointHeader, persist.puts[0].value) == header
    [send, timer] = core.step(0, Signed(sign.token, bytes(96)))
    assert send.after == (persist.token,)
    assert send.to == (0, 1, 2, 3)
    assert timer == SetTimer(RESEND_TIMER, RESEND_MS)


def test_the_own_vote_does_not_count_before_it_is_durable():
    core = Checkpoints(CHAIN_ID, make_committee(), 0)
    header = make_header(16)
    [_, sign] = core.on_executed(0, header)
    own = make_vote(0, header)
    core.step(0, Signed(sign.token, own.signature))
    for author in (1, 2):
        assert core.step(0, Received(author, make_vote(author, header))) == []
    [aggregate_three] = core.step(0, Received(0, own))
    assert [each[0] for each in aggregate_three.partials] == [0, 1, 2]


def test_a_quorum_of_equal_headers_is_certified_once():
    host = Host()
    header = make_header(16)
    host.execute(header)
    host.receive(make_vote(1, header))
    assert host.core.newest() is None
    host.receive(make_vote(2, header))
    host.receive(make_vote(3, header))
    [certificate] = host.certified
    assert certificate.header == header
    signers = decode_bitmap(certificate.signers, 4)
    keys = tuple(host.committee.members[each].consensus_key for each in signers)
    assert verify_claim(SCHEME, Claim(keys, header.signing_bytes(CHAIN_ID), certificate.signature))


def test_a_node_that_has_not_executed_yet_certifies_others_votes():
    host = Host()
    header = make_header(16)
    host.receive(*(make_vote(author, header) for author in (1, 2, 3)))
    assert host.core.newest().header == header


def test_a_poisoned_vote_is_isolated_and_its_author_banned():
    host = Host()
    header = make_header(16)
    host.receive(
        make_vote(1, header), make_vote(2, header, secret=SECRETS[5]), make_vote(3, header)
    )
    assert host.misbehaviour[2, "state.vote_invalid"] == 1
    assert host.core.newest() is None
    host.execute(header)
    assert decode_bitmap(host.core.newest().signers, 4) == (0, 1, 3)
    host.receive(make_vote(2, make_header(32)))
    assert host.core.statistics().votes == 0


def test_a_vote_in_anothers_name_is_refused():
    host = Host()
    host.step(Received(3, make_vote(1, make_header(16))))
    assert host.misbehaviour[3, "state.vote_forged"] == 1
    assert host.core.statistics().votes == 0


def test_a_certificate_that_contradicts_the_own_result_halts_the_node():
    host = Host()
    host.execute(make_header(16, b"wrong"))
    host.learn(make_certificate(make_header(16)))
    assert host.halts == ["state.diverged"]
    host.execute(make_header(32))
    assert len(host.persists) == 1


def test_a_result_that_contradicts_an_earlier_certificate_halts_the_node_before_it_votes():
    host = Host()
    host.learn(make_certificate(make_header(16)))
    host.learn(make_certificate(make_header(32)))
    host.execute(make_header(16, b"wrong"))
    assert host.halts == ["state.diverged"]
    assert host.persists == []


def test_bare_votes_never_halt_a_node():
    host = Host()
    host.execute(make_header(16))
    host.receive(*(make_vote(author, make_header(16, b"other")) for author in (1, 2)))
    assert host.halts == []


def test_a_split_without_any_possible_quorum_raises_one_alarm():
    host = Host()
    host.execute(make_header(16))
    host.receive(make_vote(1, make_header(16)))
    host.receive(make_vote(2, make_header(16, b"b")))
    assert host.alarms == []
    host.receive(make_vote(3, make_header(16, b"c")))
    host.receive(make_vote(3, make_header(16, b"c")))
    assert host.alarms == ["state.split"]
    assert host.misbehaviour == {}
    assert host.halts == []
    host.execute(make_header(32))
    host.receive(make_vote(1, make_header(32)), make_vote(2, make_header(32)))
    assert host.core.newest().header.height == 32


def test_two_signed_results_of_one_member_convict_it_once():
    host = Host()
    votes = [make_vote(2, make_header(16, result)) for result in (b"a", b"b", b"c")]
    host.receive(*votes, *(make_vote(2, make_header(32, result)) for result in (b"a", b"b")))
    [found] = host.evidence
    assert found.offender == 2
    evidence = decode_evidence(found.encoded)
    assert evidence == make_double_state_vote(votes[1], votes[0])
    assert verify_evidence(evidence, host.committee, CHAIN_ID, SCHEME, IDENTITY)
    assert host.misbehaviour == {}
    assert host.core.statistics().votes == 2


def test_results_of_different_heights_or_one_result_signed_twice_prove_nothing():
    committee = make_committee()
    one, later = make_vote(2, make_header(16)), make_vote(2, make_header(17))
    for other in (later, one):
        with pytest.raises(EvidenceError):
            validate_evidence(make_double_state_vote(one, other), committee)


def test_a_contradiction_that_was_never_signed_is_no_evidence():
    host = Host()
    host.receive(
        make_vote(2, make_header(16)), make_vote(2, make_header(16, b"b"), secret=SECRETS[5])
    )
    assert host.evidence == []
    assert host.misbehaviour == {(2, "state.vote_invalid"): 1}


def test_a_vote_is_repeated_with_growing_waits_until_it_is_certified():
    host = Host()
    host.execute(make_header(16))
    deadlines = []
    for _ in range(4):
        deadlines.append(host.deadline_ms - host.now_ms)
        host.fire()
    assert deadlines == [RESEND_MS, 2 * RESEND_MS, 4 * RESEND_MS, 8 * RESEND_MS]
    assert len(host.outbox) == 5
    assert len(set(host.outbox)) == 1
    host.learn(make_certificate(make_header(32)))
    assert host.deadline_ms is None
    host.fire()
    assert len(host.outbox) == 5


def test_the_waits_of_a_repeated_vote_stop_growing():
    host = Host()
    host.execute(make_header(16))
    for _ in range(20):
        host.fire()
    assert host.deadline_ms - host.now_ms == compute_doubling_wait_ms(RESEND_MS, DOUBLINGS_MAX)


def test_after_a_restart_the_recorded_vote_is_repeated_with_the_same_bytes():
    before = Host()
    before.execute(make_header(16))
    after = Host(recovered=RecoveredCheckpoints({16: make_header(16)}, None))
    assert after.outbox == before.outbox
    after.execute(make_header(16))
    assert after.persists == []
    assert len(after.outbox) == 1


def test_another_result_after_a_restart_is_never_signed():
    host = Host(recovered=RecoveredCheckpoints({16: make_header(16)}, None))
    host.execute(make_header(16, b"other"))
    assert host.halts == ["state.nondeterministic"]
    assert [vote.header for vote in host.outbox] == [make_header(16)]


def test_what_a_certificate_covers_is_not_voted_for():
    host = Host(recovered=RecoveredCheckpoints({}, make_certificate(make_header(32))))
    host.execute(make_header(16))
    host.execute(make_header(32))
    assert host.outbox == []
    host.execute(make_header(48))
    assert len(host.outbox) == 1


def test_an_older_certificate_changes_nothing():
    host = Host()
    host.learn(make_certificate(make_header(32)))
    host.learn(make_certificate(make_header(16)))
    assert [each.header.height for each in host.certified] == [32]


def test_votes_of_another_epoch_are_ignored():
    host = Host()
    header = CheckpointHeader(1, 16, ZERO_DIGEST, 1, ZERO_DIGEST, ZERO_DIGEST, ZERO_DIGEST)
    host.receive(make_vote(1, header))
    assert host.core.statistics().votes == 0


def test_votes_far_ahead_take_no_memory():
    host = Host()
    for height in range(1, 4 * VOTE_WINDOW_HEIGHTS):
        host.receive(make_vote(1, make_header(height)))
    assert host.core.statistics().votes == VOTE_WINDOW_HEIGHTS


def test_votes_for_many_future_heights_do_not_make_a_vote_dearer(monkeypatch):
    host = Host()
    for height in range(2, VOTE_WINDOW_HEIGHTS + 1):
        host.receive(make_vote(3, make_header(height, b"invented")))
    looks = []
    group = HeightVotes.group_by_header
    monkeypatch.setattr(
        HeightVotes, "group_by_header", lambda slot: looks.append(slot) or group(slot)
    )
    host.receive(make_vote(1, make_header(1)), make_vote(2, make_header(1)))
    # One or two make no quorum, and those who agree cannot be split.
    assert not looks
    host.receive(make_vote(3, make_header(1)))
    assert host.core.newest().header == make_header(1)
    assert len(looks) == 1


def test_quorums_that_form_during_an_aggregation_are_certified_after_it_highest_first():
    core = Checkpoints(CHAIN_ID, make_committee(), 0)
    effects = []
    for height in (1, 4, 3, 2):
        for author in (1, 2, 3):
            effects += core.step(0, Received(author, make_vote(author, make_header(height))))
    [first] = effects
    assert first.message == make_header(1).signing_bytes(CHAIN_ID)
    _, second = core.step(0, aggregate(first))
    assert second.message == make_header(4).signing_bytes(CHAIN_ID)
    [certified] = core.step(0, aggregate(second))
    assert certified.certificate.header == make_header(4)


def test_votes_far_behind_the_own_result_take_no_memory():
    host = Host()
    host.receive(*(make_vote(1, make_header(height)) for height in range(1, 50)))
    host.execute(make_header(10_000))
    assert host.core.statistics().votes == 1


def test_a_quorum_far_above_the_last_certificate_is_still_found():
    host = Host()
    header = make_header(50_000)
    host.execute(header)
    host.receive(make_vote(1, header), make_vote(2, header))
    assert host.core.newest().header == header


def test_own_results_repeated_votes_and_certified_headers_are_bounded():
    host = Host()
    for height in range(1, OWN_HEADERS_MAX + 20):
        host.execute(make_header(height))
    assert host.core.statistics().own_headers == OWN_HEADERS_MAX
    assert host.core.statistics().votes_repeated == VOTES_RESENT_MAX
    lagging = Host()
    for height in range(1, CERTIFIED_HEADERS_MAX + 20):
        lagging.learn(make_certificate(make_header(height)))
    assert lagging.core.statistics().certified_headers == CERTIFIED_HEADERS_MAX


def test_records_far_below_the_newest_certificate_are_deleted():
    host = Host()
    host.learn(make_certificate(make_header(VOTE_RETENTION_HEIGHTS + 100)))
    host.execute(make_header(VOTE_RETENTION_HEIGHTS + 101))
    [delete] = host.persists[0].deletes
    assert delete.below == (100).to_bytes(8, "big")


@pytest.mark.parametrize("size", [1, 4, 7])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_node_certifies_the_last_height_once_the_network_heals(size, seed):
    rng = random.Random(seed)
    hosts = [Host(index, size) for index in range(size)]
    heights = (16, 17, 32, 40, 48)
    for height in heights:
        for host in rng.sample(hosts, size):
            host.execute(make_header(height))
            deliver(hosts, rng, loss_percent=60)
    for _ in range(4):
        for host in hosts:
            host.fire()
        deliver(hosts, rng, loss_percent=0)
    # Whoever holds the certificate repeats its vote no more, but puts the certificate in a block.
    known = [host.core.newest() for host in hosts if host.core.newest() is not None]
    for host in hosts:
        host.learn(max(known, key=lambda certificate: certificate.header.height))
    for host in hosts:
        assert host.core.newest().header == make_header(heights[-1])
        assert host.misbehaviour == {}
        assert host.halts == []


def deliver(hosts, rng, loss_percent):
    mail = [(host, vote) for host in hosts for vote in host.outbox]
    for host in hosts:
        host.outbox.clear()
    rng.shuffle(mail)
    for sender, vote in mail:
        for host in hosts:
            if host is not sender and rng.randrange(100) >= loss_percent:
                host.receive(vote)
