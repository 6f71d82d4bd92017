"""The machine of a joining node among scripted members: who lies is named, who is silent is not,
and it joins by what a quorum certified as long as one member that it reaches is honest."""

from collections import Counter
from heapq import heappop, heappush

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from consensus.effects import Misbehaviour, Received, Send, SetTimer, TimerFired, Verified, Verify
from consensus.messages import ChunkRequest, SnapshotChunk, SnapshotOffer, SnapshotRequest
from consensus.types import CheckpointHeader, StateCertificate
from crypto.codec import encode
from crypto.digest import ZERO_DIGEST
from crypto.scheme import verify_claim
from engine.snapshots.chunks import ChunkName, Manifest, compute_chunk_name, encode_manifest
from engine.snapshots.whole import SNAPSHOT_VERSION
from localnet.sim.keys import CHAIN_ID, Keys
from node.joining import (
    CHUNK_WAIT_MS,
    JOIN_TIMER,
    OFFERS_WAIT_MS,
    ROUND_MS,
    JoinEnded,
    Joiner,
    KeepChunk,
    KeepOffer,
    Restore,
    Restored,
    Resumed,
)
from node.offers import Offer, OfferError, check_offer, verify_offer

KEYS = Keys()
SEAT = 3
ROOT = bytes([7]) * 32
PIECES = tuple(bytes([number]) * (100 + number) for number in range(12))


def names_of(pieces):
    return tuple(ChunkName(compute_chunk_name(each), len(each)) for each in pieces)


def make_offer(view=1, pieces=PIECES, signers=(0, 1, 2)):
    """What an honest member gives: the last piece is of the order state."""
    block = KEYS.make_block(view, KEYS.genesis)
    block = replace(block, height=view)
    header = CheckpointHeader(
        0, block.height, block.block_id(CHAIN_ID), block.time_ms, ROOT, ROOT, ZERO_DIGEST
    )
    certificate = StateCertificate(header, *KEYS.aggregate(signers, header.signing_bytes(CHAIN_ID)))
    manifest = Manifest(SNAPSHOT_VERSION, block.height, ROOT, names_of(pieces[:-1]))
    return Offer(
        certificate,
        block,
        KEYS.make_qc(block, signers=signers),
        encode_manifest(manifest),
        names_of(pieces[-1:]),
    )


class Member:
    """Honest; those below say otherwise."""

    delay_ms = 0
    """Until an answer is there."""

    def __init__(self, offer=None, pieces=PIECES):
        self.offer = offer
        self.pieces = {compute_chunk_name(each): each for each in pieces}
        self.asked = Counter()

    def answer(self, now_ms, message):
        match message:
            case SnapshotRequest():
                return SnapshotOffer(encode(self.offer) if self.offer else b"")
            case ChunkRequest(name):
                self.asked[name] += 1
                return self.give(now_ms, name)

    def give(self, now_ms, name):
        return SnapshotChunk(name, self.pieces.get(name, b""))


class Liar(Member):
    def give(self, now_ms, name):
        return SnapshotChunk(name, b"something else")


class Withholder(Member):
    def give(self, now_ms, name):
        return None


class Mute(Member):
    def answer(self, now_ms, message):
        return None


class Run:
    """One life of a joiner, until it ends, for at most so long."""

    def __init__(self, members, resumed=None, is_true=lambda offer: True):
        self.members = members
        self.is_true = is_true
        self.joiner = Joiner(CHAIN_ID, KEYS.committee, SEAT, resumed or Resumed(None, frozenset()))
        self.now_ms = 0
        self.kept = {}
        self.offer = None
        self.blamed = []
        self.ended = None
        self.restored = []

    def go(self, duration_ms=60_000, stop_after=None):
        waiting = [(0, 0, None)]
        timer_ms = None
        count = 0
        while waiting or timer_ms is not None:
            if stop_after is not None and len(self.kept) >= stop_after:
                break
            if waiting and (timer_ms is None or waiting[0][0] <= max(self.now_ms, timer_ms)):
                at_ms, _, event = heappop(waiting)
                self.now_ms = max(self.now_ms, at_ms)
            else:
                self.now_ms, timer_ms = max(self.now_ms, timer_ms), None
                event = TimerFired(JOIN_TIMER)
            if self.now_ms > duration_ms or self.ended is not None:
                break
            step = self.joiner.step
            effects = self.joiner.start(0) if event is None else step(self.now_ms, event)
            for effect in effects:
                count += 1
                match effect:
                    case Send(to, message):
                        for member in to:
                            count += 1
                            each = self.members[member]
                            answer = each.answer(self.now_ms, message)
                            if answer is not None:
                                event = Received(member, answer)
                                heappush(waiting, (self.now_ms + each.delay_ms, count, event))
                    case SetTimer(_, deadline_ms):
                        timer_ms = deadline_ms
                    case Verify(token, claims):
                        results = tuple(verify_claim(KEYS.scheme, each) for each in claims)
                        heappush(waiting, (0, count, Verified(token, results)))
                    case KeepOffer(offer):
                        self.offer = offer
                    case KeepChunk(name, data):
                        assert name not in self.kept
                        assert compute_chunk_name(data) == name
                        self.kept[name] = data
                    case Misbehaviour(member, code):
                        self.blamed.append((member, code))
                    case Restore(token, offer):
                        held = {each.digest for each in offer.order}
                        assert held <= self.kept.keys()
                        self.restored.append(offer)
                        error = None if self.is_true(offer) else "offer.false: another state"
                        heappush(waiting, (0, count, Restored(token, error)))
                    case JoinEnded(height):
                        self.ended = height
        return self


def all_members(kind=Member, offer=None):
    return {index: kind(offer) for index in (0, 1, 2)}


def test_it_joins_by_what_honest_members_give_and_asks_for_each_piece_once():
    members = all_members(offer=make_offer())
    run = Run(members).go()
    assert run.ended == 1
    assert run.blamed == []
    assert set(run.kept.values()) == set(PIECES)
    asked = sum((member.asked for member in members.values()), Counter())
    assert set(asked.values()) == {1}
    assert all(member.asked for member in members.values())


@pytest.mark.parametrize("liar", [0, 1, 2])
def test_who_gives_other_bytes_is_named_and_the_piece_comes_from_another(liar):
    members = all_members(offer=make_offer())
    members[liar] = Liar(make_offer())
    run = Run(members).go()
    assert run.ended == 1
    assert run.blamed == [(liar, "offer.chunk_false")]
    assert sum(members[liar].asked.values()) == 1


@pytest.mark.parametrize("kind", [Withholder, Mute])
def test_who_withholds_is_passed_over_and_not_blamed(kind):
    members = all_members(offer=make_offer())
    members[1] = kind(make_offer())
    run = Run(members).go()
    assert run.ended == 1
    assert run.blamed == []
    assert run.now_ms <= 3 * CHUNK_WAIT_MS
    assert sum(members[1].asked.values()) <= 3


def test_who_has_a_piece_no_longer_is_not_blamed():
    members = all_members(offer=make_offer())
    members[2] = Member(make_offer(), pieces=())
    run = Run(members).go()
    assert (run.ended, run.blamed) == (1, [])


def test_one_honest_member_is_enough_among_liars_of_every_kind():
    members = {0: Liar(make_offer()), 1: Member(make_offer()), 2: Withholder(make_offer())}
    run = Run(members).go()
    assert run.ended == 1
    assert run.blamed == [(0, "offer.chunk_false")]


def spoil(offer, **changes):
    return replace(offer, **changes)


FORGERIES = {
    "a certificate of too few": lambda good: make_offer(signers=(0, 1)),
    "a certificate with another signature": lambda good: spoil(
        good, certificate=replace(good.certificate, signature=bytes(96))
    ),
    "votes with another signature": lambda good: spoil(
        good, qc=replace(good.qc, signature=bytes(96))
    ),
    "votes for another block": lambda good: spoil(good, qc=make_offer(2).qc),
    "another block": lambda good: spoil(good, block=make_offer(2).block),
    "a manifest of another state": lambda good: spoil(
        good,
        manifest=encode_manifest(Manifest(SNAPSHOT_VERSION, 1, bytes(32), names_of(PIECES))),
    ),
    "a manifest of another height": lambda good: spoil(good, manifest=make_offer(2).manifest),
    "no manifest": lambda good: spoil(good, manifest=b""),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_offer_is_refused_and_its_author_named(forgery):
    forged = FORGERIES[forgery](make_offer())
    with pytest.raises(OfferError):
        verify_offer(encode(forged), CHAIN_ID, KEYS.committee, KEYS.scheme)
    members = {0: Member(forged), 1: Member(make_offer()), 2: Member(make_offer())}
    run = Run(members).go()
    assert run.ended == 1
    assert [member for member, _ in run.blamed] == [0]
    assert run.blamed[0][1].startswith("offer.")


def test_pieces_that_make_another_state_convict_whoever_listed_them_and_nobody_else():
    lies = (*PIECES[:-2], b"a lie", PIECES[-1])
    false = make_offer(pieces=lies)
    members = {0: Member(false, lies), 1: Mute(), 2: Mute()}
    run = Run(members, is_true=lambda offer: offer.manifest != false.manifest)
    run.go(duration_ms=20_000)
    assert run.blamed == [(0, "offer.false")]
    assert run.ended is None
    members[1], members[2] = Member(make_offer()), Member(make_offer())
    again = Run(members, Resumed(run.offer, frozenset(run.kept)), run.is_true)
    again.kept = dict(run.kept)
    again.go()
    assert again.ended == 1
    assert (
        sum((each.asked for each in members.values()), Counter())[compute_chunk_name(lies[0])] == 1
    )


def test_what_honest_power_gives_alike_goes_before_what_one_says_is_newer():
    lies = (*PIECES, b"a lie")
    members = {
        0: Member(make_offer(9, lies), lies),
        1: Member(make_offer()),
        2: Member(make_offer()),
    }
    run = Run(members).go()
    assert (run.ended, run.blamed) == (1, [])
    assert run.now_ms < OFFERS_WAIT_MS


class Late(Member):
    """Honest, but not reached before a time."""

    def answer(self, now_ms, message):
        return super().answer(now_ms, message) if now_ms >= 6_000 else None


class Endless(Member):
    """Gives what it listed, true to its names, as slowly as may be."""

    delay_ms = CHUNK_WAIT_MS - 1


@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_list_without_end_is_left_for_what_honest_power_gives_alike(is_resumed):
    lies = tuple(number.to_bytes(2, "big") for number in range(500))
    endless = make_offer(9, (*lies, PIECES[-1]))
    members = {0: Endless(endless, lies), 1: Late(make_offer()), 2: Late(make_offer())}
    resumed = Resumed(encode(endless), frozenset()) if is_resumed else None
    run = Run(members, resumed, is_true=lambda offer: offer == make_offer()).go()
    assert (run.ended, run.blamed) == (1, [])
    assert run.offer == encode(make_offer())
    assert run.now_ms < 6_000 + 2 * ROUND_MS


def test_what_honest_power_gives_alike_is_fetched_to_the_end_whatever_else_is_offered():
    class Moving(Member):
        delay_ms = 500

        def answer(self, now_ms, message):
            if isinstance(message, SnapshotRequest) and self.asked:
                return SnapshotOffer(encode(make_offer(2)))
            return super().answer(now_ms, message)

    run = Run({0: Moving(make_offer()), 1: Moving(make_offer()), 2: Mute()}).go()
    assert (run.ended, run.blamed) == (1, [])
    assert [each.height for each in run.restored] == [1]


def test_a_single_offer_is_taken_when_nobody_backs_another():
    run = Run({0: Member(make_offer()), 1: Mute(), 2: Mute()}).go()
    assert run.ended == 1
    assert run.now_ms >= OFFERS_WAIT_MS


def test_a_young_chain_is_joined_by_its_blocks():
    assert Run(all_members()).go().ended == 0


def test_one_member_without_a_snapshot_decides_nothing():
    run = Run({0: Member(), 1: Mute(), 2: Mute()}).go(duration_ms=30_000)
    assert (run.ended, run.blamed) == (None, [])


@pytest.mark.parametrize("stop_after", [1, 5, 11])
def test_after_a_crash_only_what_is_missing_is_asked_for(stop_after):
    first = Run(all_members(offer=make_offer())).go(stop_after=stop_after)
    members = all_members(offer=make_offer())
    second = Run(members, Resumed(first.offer, frozenset(first.kept)))
    second.kept = dict(first.kept)
    second.go()
    assert second.ended == 1
    asked = sum((member.asked for member in members.values()), Counter())
    assert not asked.keys() & first.kept.keys()
    assert len(asked) == len(PIECES) - len(first.kept)


def test_an_offer_of_an_older_program_on_the_disk_is_nobodys_fault():
    run = Run(all_members(offer=make_offer()), Resumed(b"older", frozenset())).go()
    assert (run.ended, run.blamed) == (1, [])


def test_when_all_have_moved_on_the_next_offer_is_taken_and_what_was_fetched_is_used():
    later = (*PIECES[:6], b"new", PIECES[-1])

    class MovesOn(Member):
        def give(self, now_ms, name):
            if self.offer == make_offer() and sum(self.asked.values()) > 1:
                self.__init__(make_offer(2, later), later)
                return SnapshotChunk(name, b"")
            return super().give(now_ms, name)

    run = Run(all_members(MovesOn, make_offer())).go()
    assert (run.ended, run.blamed) == (2, [])
    assert run.restored[-1] == make_offer(2, later)


def test_a_piece_that_comes_late_is_used():
    joiner = Joiner(CHAIN_ID, KEYS.committee, SEAT)
    joiner.start(0)
    offer = make_offer()
    for member in (0, 1):
        (verify, *_) = joiner.step(1, Received(member, SnapshotOffer(encode(offer))))
        effects = joiner.step(1, Verified(verify.token, (True, True)))
    requests = [each for each in effects if isinstance(each, Send)]
    (peer,), name = requests[0].to, requests[0].message.name
    joiner.step(1 + CHUNK_WAIT_MS, TimerFired(JOIN_TIMER))
    data = next(each for each in PIECES if compute_chunk_name(each) == name)
    effects = joiner.step(2 + CHUNK_WAIT_MS, Received(peer, SnapshotChunk(name, data)))
    assert KeepChunk(name, data) in effects


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(
            [
                SnapshotOffer(b""),
                SnapshotOffer(b"nonsense"),
                SnapshotOffer(encode(make_offer())),
                SnapshotOffer(encode(make_offer(2))),
                SnapshotRequest(0),
                ChunkRequest(bytes(32)),
                SnapshotChunk(bytes(32), b""),
                SnapshotChunk(bytes(32), b"lie"),
                *(SnapshotChunk(compute_chunk_name(each), each) for each in PIECES[:3]),
                "verified",
                "refuted",
                "later",
            ]
        ),
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(EVENTS)
def test_no_order_of_events_makes_it_restore_what_it_does_not_hold(events):
    joiner = Joiner(CHAIN_ID, KEYS.committee, SEAT)
    effects = list(joiner.start(0))
    pending = []
    held, now_ms = set(), 0
    for sender, event in events:
        now_ms += 1
        if event in ("verified", "refuted"):
            if not pending:
                continue
            token = pending.pop()
            effects = joiner.step(now_ms, Verified(token, (event == "verified", True)))
        elif event == "later":
            now_ms += 2_500
            effects = joiner.step(now_ms, TimerFired(JOIN_TIMER))
        else:
            effects = joiner.step(now_ms, Received(sender, event))
        for effect in effects:
            match effect:
                case Verify(token):
                    pending.append(token)
                case KeepChunk(name, data):
                    assert compute_chunk_name(data) == name
                    held.add(name)
                case Restore(_, offer):
                    wanted = check_offer(encode(offer), CHAIN_ID, KEYS.committee).pieces()
                    assert held.issuperset(wanted)
                case Misbehaviour(member):
                    assert member in (0, 1, 2)
                case Send(to):
                    assert SEAT not in to
