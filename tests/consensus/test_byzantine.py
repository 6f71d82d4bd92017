"""Members that lie: the honest agree, go on, and blame nobody but the liars."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from consensus.core import ConsensusCore
from consensus.effects import EvidenceFound, Received, Send, Verified, Verify
from consensus.evidence import DoubleProposal, DoubleVote, decode_evidence, verify_evidence
from consensus.intake import PENDING_MAX_PER_PEER
from consensus.messages import (
    Advance,
    BlockRequest,
    BlockResponse,
    Message,
    Proposal,
    ShownProposal,
    Timeout,
    Vote,
)
from consensus.proposals import PROPOSAL_VIEWS_BEHIND_MAX, Proposals
from consensus.types import Block
from consensus.votes import VIEW_AHEAD_MAX
from crypto.codec import DecodeError, decode, encode
from localnet.sim.cluster import Cluster
from localnet.sim.keys import CHAIN_ID, Keys
from localnet.sim.network import Conditions
from localnet.sim.solo import Solo

LIAR = 2
"""Leads the first two views under the default schedule, and every fourth later on."""

KEYS = Keys()


class Liar:
    """An honest core whose outgoing messages go through `lie`."""

    def __init__(self, core: ConsensusCore, lie: Callable[[Send], Sequence[Send]]) -> None:
        self._core = core
        self._lie = lie

    def start(self, now_ms: int) -> list[Any]:
        return self._distort(self._core.start(now_ms))

    def step(self, now_ms: int, event: Any) -> list[Any]:
        return self._distort(self._core.step(now_ms, event))

    def on_payload(self, now_ms: int) -> list[Any]:
        return self._distort(self._core.on_payload(now_ms))

    def _distort(self, effects: Sequence[Any]) -> list[Any]:
        distorted: list[Any] = []
        for effect in effects:
            distorted += self._lie(effect) if isinstance(effect, Send) else [effect]
        return distorted


def other_proposal(proposal: Proposal) -> Proposal:
    block = replace(proposal.block, time_ms=proposal.block.time_ms + 1)
    return KEYS.make_proposal(block)


def proposes_differently_to_each_half(send: Send) -> list[Send]:
    if not isinstance(send.message, Proposal):
        return [send]
    return [
        replace(send, to=send.to[:1]),
        replace(send, to=send.to[1:], message=other_proposal(send.message)),
    ]


def proposes_twice_to_everybody(send: Send) -> list[Send]:
    if not isinstance(send.message, Proposal):
        return [send]
    return [send, replace(send, message=other_proposal(send.message))]


def votes_twice(send: Send) -> list[Send]:
    if not isinstance(send.message, Vote):
        return [send]
    data = replace(send.message.data, block_id=bytes(32))
    signature = KEYS.sign(LIAR, data.signing_bytes(CHAIN_ID))
    return [send, replace(send, message=Vote(data, LIAR, signature))]


def poisons_votes(send: Send) -> list[Send]:
    if not isinstance(send.message, Vote):
        return [send]
    return [replace(send, message=replace(send.message, signature=bytes([1]) * 96))]


def poisons_timeouts(send: Send) -> list[Send]:
    if not isinstance(send.message, Timeout):
        return [send]
    return [replace(send, message=replace(send.message, signature=bytes([1]) * 96))]


def never_proposes(send: Send) -> list[Send]:
    return [] if isinstance(send.message, Proposal) else [send]


def proposes_to_one_only(send: Send) -> list[Send]:
    return [replace(send, to=send.to[:1])] if isinstance(send.message, Proposal) else [send]


def never_votes(send: Send) -> list[Send]:
    return [] if isinstance(send.message, Vote) else [send]


def proposes_on_genesis_for_ever(send: Send) -> list[Send]:
    if not isinstance(send.message, Proposal):
        return [send]
    block = KEYS.make_block(send.message.view, KEYS.genesis, time_ms=send.message.block.time_ms)
    return [replace(send, message=KEYS.make_proposal(block))]


def hides_its_newest_certificate(send: Send) -> list[Send]:
    if not isinstance(send.message, Timeout) or send.message.last_tc is None:
        return [send]
    tc = send.message.last_tc
    view = send.message.data.view
    stale = KEYS.make_timeout(LIAR, view, tc.high_qc, last_tc=tc)
    return [replace(send, message=stale)]


def leads_from_the_far_future(send: Send) -> list[Send]:
    if not isinstance(send.message, Proposal):
        return [send]
    block = replace(send.message.block, view=send.message.view + 1_000)
    return [replace(send, message=KEYS.make_proposal(block))]


LIES = (
    proposes_differently_to_each_half,
    proposes_twice_to_everybody,
    votes_twice,
    poisons_votes,
    poisons_timeouts,
    never_proposes,
    proposes_to_one_only,
    never_votes,
    proposes_on_genesis_for_ever,
    hides_its_newest_certificate,
    leads_from_the_far_future,
)


def run_with_liar(
    lie: Callable[[Send], Sequence[Send]], seed: int, conditions: Conditions | None = None
) -> Cluster:
    cluster = Cluster(
        seed,
        conditions=conditions,
        byzantine={LIAR: lambda core, index: Liar(core, lie)},
    )
    cluster.start()
    cluster.submit_every(50, until_ms=10_000)
    return cluster


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_honest_agree_and_go_on(lie: Callable[[Send], Sequence[Send]], seed: int) -> None:
    cluster = run_with_liar(lie, seed)
    cluster.run_until_height(12, 120_000)
    if lie in (poisons_votes,):
        banned = [cluster.core(index).statistics().banned_members for index in cluster.honest]
        assert max(banned) == 1


@pytest.mark.parametrize("lie", LIES)
def test_lies_over_a_lossy_network(lie: Callable[[Send], Sequence[Send]]) -> None:
    cluster = run_with_liar(lie, 3, Conditions(drop_permille=50, delay_ms=(1, 80)))
    cluster.run_until_height(8, 300_000)


@pytest.mark.parametrize(
    ("lie", "kind"),
    [(votes_twice, DoubleVote), (proposes_twice_to_everybody, DoubleProposal)],
)
def test_a_double_signature_becomes_evidence_that_convicts(
    lie: Callable[[Send], Sequence[Send]], kind: type
) -> None:
    cluster = run_with_liar(lie, 4)
    assert cluster.world.run_until(lambda: bool(cluster.blame.evidence), 60_000)
    found = cluster.blame.evidence[0]
    evidence = decode_evidence(found.encoded)
    assert isinstance(evidence, kind)
    keys = cluster.keys
    schemes = (keys.scheme, keys.identity_scheme)
    assert verify_evidence(evidence, keys.committee, CHAIN_ID, *schemes)
    assert not verify_evidence(evidence, keys.committee, bytes(32), *schemes)
    # Ordered in a block, it reaches everybody.
    cluster.payload.evidence.append(found.encoded)
    assert cluster.world.run_until(
        lambda: any(found.encoded in block.evidence for block in cluster.agreement.blocks.values()),
        60_000,
    )
    carriers = [b for b in cluster.agreement.blocks.values() if found.encoded in b.evidence]
    assert carriers[0].evidence == (found.encoded,)


def test_a_poisoned_vote_costs_its_sender_the_place_and_nobody_the_certificate() -> None:
    solo = Solo(me=LIAR)
    keys = solo.keys
    solo.wait(solo.config.idle_interval_ms)
    (proposal,) = solo.proposals()
    poison = replace(keys.make_vote(0, proposal.block), signature=bytes([1]) * 96)
    solo.receive(0, poison)
    solo.receive(1, keys.make_vote(1, proposal.block))
    solo.wait(solo.config.straggler_wait_ms)
    assert solo.core.statistics().qcs_formed == 0
    assert solo.refusals == ["signature.poison"]
    solo.receive(0, keys.make_vote(0, proposal.block))
    assert solo.core.statistics().qcs_formed == 0
    solo.receive(3, keys.make_vote(3, proposal.block))
    assert solo.core.statistics().qcs_formed == 1


def test_stragglers_are_waited_for_a_moment() -> None:
    solo = Solo(me=LIAR)
    keys = solo.keys
    solo.wait(solo.config.idle_interval_ms)
    (proposal,) = solo.proposals()
    for member in (0, 1):
        solo.receive(member, keys.make_vote(member, proposal.block))
    assert solo.core.statistics().qcs_formed == 0
    solo.receive(3, keys.make_vote(3, proposal.block))
    (advance,) = solo.sent_of(Advance)
    assert advance.qc == keys.make_qc(proposal.block, signers=keys.everyone)
    # What was formed here needs no verification when it comes back.
    before = solo.verified_claims
    solo.receive(3, keys.make_timeout(3, 2, advance.qc))
    assert solo.core.statistics().pending_timeouts == 1
    assert solo.verified_claims == before


def test_two_different_timeouts_of_one_view_convict() -> None:
    solo = Solo()
    keys = solo.keys
    qc1 = solo.run_views(1)
    tc2 = keys.make_tc(2, qc1)
    solo.receive(0, Advance(qc1, tc2))
    solo.receive(1, keys.make_timeout(1, 3, qc1, last_tc=tc2))
    solo.receive(1, keys.make_timeout(1, 3, qc1, tip_view=2, last_tc=tc2))
    (found,) = [each for each in solo.effects if isinstance(each, EvidenceFound)]
    assert found.offender == 1


def test_nobody_is_blamed_for_what_a_slow_verifier_has_no_room_for() -> None:
    solo = Solo()
    keys = solo.keys
    solo.holds_verdicts = True
    for view in range(1, PENDING_MAX_PER_PEER + 4):
        solo.receive(1, Advance(keys.make_qc(keys.make_block(view, keys.genesis)), None))
    statistics = solo.core.statistics()
    assert statistics.pending_messages == PENDING_MAX_PER_PEER
    assert statistics.messages_dropped == 3
    assert statistics.messages_refused == 0
    assert statistics.banned_members == 0
    assert solo.refusals == []


def test_a_second_signature_that_does_not_verify_convicts_nobody() -> None:
    solo = Solo(me=LIAR)
    solo.wait(solo.config.idle_interval_ms)
    (proposal,) = solo.proposals()
    vote = solo.keys.make_vote(0, proposal.block)
    solo.receive(0, vote, replace(vote, data=replace(vote.data, block_id=bytes(32))))
    assert solo.refusals == ["signature.invalid"]
    assert not [each for each in solo.effects if isinstance(each, EvidenceFound)]


def make_halves(solo: Solo) -> tuple[Block, Block]:
    """Two blocks that the leader of the first view proposes; the node sees the first."""
    block = solo.keys.make_block(1, solo.keys.genesis)
    rival = replace(block, time_ms=block.time_ms + 1)
    solo.propose(block)
    return block, rival


def show(keys: Keys, block: Block) -> ShownProposal:
    return ShownProposal(block.view, block.block_id(CHAIN_ID), keys.make_proposal(block).signature)


def is_proven_twofaced(solo: Solo) -> bool:
    """Does the node hold proof that the liar proposed two blocks?"""
    found = [decode_evidence(each.encoded) for each in solo.effects if is_evidence(each)]
    keys = solo.keys
    return [(type(each), each.offender) for each in found] == [(DoubleProposal, LIAR)] and all(
        verify_evidence(each, keys.committee, CHAIN_ID, keys.scheme, keys.identity_scheme)
        for each in found
    )


def is_evidence(effect: object) -> bool:
    return isinstance(effect, EvidenceFound)


@pytest.mark.parametrize("is_late", [False, True])
def test_a_timeout_shows_what_was_proposed_and_so_the_halves_of_an_offence_meet(
    is_late: bool,
) -> None:
    solo = Solo()
    keys = solo.keys
    _, rival = make_halves(solo)
    if is_late:
        solo.receive(1, Advance(keys.genesis, keys.make_tc(1, keys.genesis)))
        assert solo.view == 2
    solo.receive(0, keys.make_timeout(0, 1, keys.genesis))
    assert not is_proven_twofaced(solo), "nothing is shown"
    timeout = keys.make_timeout(1, 1, keys.genesis)
    solo.receive(1, replace(timeout, proposal=show(keys, rival)))
    assert is_proven_twofaced(solo)
    assert solo.refusals == []


def test_the_own_timeout_shows_what_was_proposed() -> None:
    solo = Solo()
    block, _ = make_halves(solo)
    solo.wait(60_000)
    assert solo.sent_of(Timeout)[0].proposal == show(solo.keys, block)


def test_a_certificate_for_another_block_than_the_one_proposed_here_makes_a_node_show_it_once() -> (
    None
):
    solo = Solo()
    block, rival = make_halves(solo)
    qc = solo.keys.make_qc(rival)
    for _ in range(2):
        solo.receive(1, Advance(qc, None))
    (shown,) = solo.sent_of(ShownProposal)
    assert shown == show(solo.keys, block)
    assert [to for to, each in solo.sent if each == shown] == [(0, 1, 2)]
    holder = Solo(me=0)
    holder.propose(rival)
    holder.receive(3, shown)
    assert is_proven_twofaced(holder)


def test_whoever_makes_a_half_up_accuses_nobody_but_itself() -> None:
    solo = Solo()
    _, rival = make_halves(solo)
    forged = replace(show(solo.keys, rival), signature=solo.keys.sign(0, b"mine"))
    solo.receive(0, forged)
    assert solo.refusals == ["signature.invalid"]
    assert not is_proven_twofaced(solo)
    solo.receive(1, show(solo.keys, rival))
    assert is_proven_twofaced(solo), "the true half comes from somebody else"


def make_unseen_halves(solo: Solo) -> tuple[Block, Block]:
    """Two blocks that the leader of the first view proposes; the node sees neither."""
    block = solo.keys.make_block(1, solo.keys.genesis)
    return block, replace(block, time_ms=block.time_ms + 1)


@pytest.mark.parametrize("is_in_timeout", [False, True])
def test_what_is_shown_before_the_own_proposal_comes_is_compared_when_it_comes(
    is_in_timeout: bool,
) -> None:
    solo = Solo()
    keys = solo.keys
    block, rival = make_unseen_halves(solo)
    shown = show(keys, rival)
    timeout = replace(keys.make_timeout(0, 1, keys.genesis), proposal=shown)
    solo.receive(0, timeout if is_in_timeout else shown)
    assert not is_proven_twofaced(solo)
    solo.propose(block)
    assert is_proven_twofaced(solo)
    assert solo.voted_views == [1], "what is shown keeps nobody from voting"
    assert solo.refusals == []


def test_two_members_that_show_different_blocks_of_a_view_convict_without_an_own_proposal() -> None:
    solo = Solo()
    block, rival = make_unseen_halves(solo)
    solo.holds_verdicts = True
    solo.receive(0, show(solo.keys, block))
    solo.receive(1, show(solo.keys, rival))
    solo.holds_verdicts = False
    for verify in [each for each in solo.effects if isinstance(each, Verify)]:
        solo.answer(Verified(verify.token, (True,)))
    assert is_proven_twofaced(solo)


def test_what_many_show_is_verified_once_and_nobody_votes_for_it_or_shows_it_on() -> None:
    solo = Solo()
    block, _ = make_unseen_halves(solo)
    shown = show(solo.keys, block)
    solo.holds_verdicts = True
    solo.receive(0, shown)
    solo.receive(1, shown)
    (verify,) = [each for each in solo.effects if isinstance(each, Verify)]
    solo.holds_verdicts = False
    solo.answer(Verified(verify.token, (True,)))
    solo.receive(2, shown)
    assert solo.verified_claims == 0
    solo.wait(60_000)
    assert solo.voted_views == []
    assert solo.sent_of(Timeout)[0].proposal is None


def test_a_forged_proposal_that_is_shown_first_takes_the_place_of_no_true_one() -> None:
    solo = Solo()
    block, rival = make_unseen_halves(solo)
    forged = replace(show(solo.keys, rival), signature=solo.keys.sign(0, b"mine"))
    solo.holds_verdicts = True
    solo.receive(0, forged)
    solo.receive(1, show(solo.keys, rival))
    pending = [each for each in solo.effects if isinstance(each, Verify)]
    solo.holds_verdicts = False
    for verify, is_valid in zip(pending, (False, True), strict=True):
        solo.answer(Verified(verify.token, (is_valid,)))
    assert solo.refusals == ["signature.invalid"]
    assert solo.core.statistics().banned_members == 1
    solo.propose(block)
    assert is_proven_twofaced(solo)


def test_a_proposal_that_comes_after_the_certificate_of_its_rival_is_shown_to_the_voters() -> None:
    solo = Solo()
    block, rival = make_unseen_halves(solo)
    solo.receive(1, Advance(solo.keys.make_qc(rival), None))
    assert not solo.sent_of(ShownProposal)
    solo.propose(block)
    assert solo.sent_of(ShownProposal) == [show(solo.keys, block)]


def test_a_certificate_that_comes_inside_a_fetched_block_makes_a_node_show_the_rival() -> None:
    solo = Solo()
    keys = solo.keys
    block, rival = make_halves(solo)
    second = keys.make_block(2, keys.make_qc(rival))
    # The certificate of a later view comes first.
    solo.receive(0, Advance(keys.make_qc(second), None))
    assert not solo.sent_of(ShownProposal)
    (peer,) = next(to for to, each in solo.sent if isinstance(each, BlockRequest))
    solo.receive(peer, BlockResponse((second, rival)))
    assert solo.sent_of(ShownProposal) == [show(keys, block)]


def test_what_is_shown_of_views_far_away_or_of_convicted_leaders_is_passed_over() -> None:
    solo = Solo()
    keys = solo.keys
    solo.receive(0, *(make_shown(view) for view in (2**60, 1 + VIEW_AHEAD_MAX + 1)))
    assert solo.core.statistics().pending_messages == 0
    assert solo.verified_claims == 0
    block, rival = make_halves(solo)
    solo.receive(1, show(keys, rival))
    assert is_proven_twofaced(solo)
    before = solo.verified_claims
    solo.receive(1, make_shown(2))
    assert solo.verified_claims == before, "the leader of the second view stands convicted"
    far = PROPOSAL_VIEWS_BEHIND_MAX + 3
    solo.receive(1, Advance(keys.make_qc(keys.make_block(far, keys.make_qc(block))), None))
    before = solo.verified_claims
    solo.receive(1, make_shown(3))
    assert solo.verified_claims == before
    assert solo.refusals == []


def make_shown(view: int) -> ShownProposal:
    return ShownProposal(view, bytes(32), bytes(96))


def test_of_each_recent_view_one_proposal_one_that_was_shown_and_one_certificate_are_kept() -> None:
    keys = KEYS
    proposals = Proposals()
    first, last = 1, 3 * PROPOSAL_VIEWS_BEHIND_MAX
    for view in range(first, last + 1):
        for number in range(3):
            block_id = bytes([number]) * 32
            proposals.add(view, block_id, bytes([1]) * 96)
            proposals.add_shown(ShownProposal(view, block_id, bytes(96)))
            proposals.add_certified(keys.make_qc(keys.make_block(view, keys.genesis)))
        assert proposals.take_rival(view) is not None
        assert proposals.take_rival(view) is None
        proposals.prune(view)
    assert [view for view in range(first, last + 1) if proposals.is_known(view)] == list(
        range(last - PROPOSAL_VIEWS_BEHIND_MAX, last + 1)
    )
    known = PROPOSAL_VIEWS_BEHIND_MAX + 1
    assert {name: len(kept) for name, kept in vars(proposals).items()} == dict.fromkeys(
        ("_seen", "_shown", "_certified", "_told"), known
    )


def test_a_flood_keeps_no_evidence_against_its_sender_out() -> None:
    solo = Solo(me=LIAR)
    solo.wait(solo.config.idle_interval_ms)
    (proposal,) = solo.proposals()
    keys = solo.keys
    solo.holds_verdicts = True
    for view in range(2, PENDING_MAX_PER_PEER + 4):
        solo.receive(0, Advance(keys.make_qc(keys.make_block(view, keys.genesis)), None))
    assert solo.core.statistics().messages_dropped
    vote, rival = (
        keys.make_vote(0, each)
        for each in (proposal.block, replace(proposal.block, time_ms=proposal.block.time_ms + 1))
    )
    for _ in range(3):
        solo.receive(0, vote, rival)
    statistics = solo.core.statistics()
    assert statistics.pending_messages == PENDING_MAX_PER_PEER + 1, "one place for each kind"
    pending = [each for each in solo.effects if isinstance(each, Verify)][-1]
    solo.answer(Verified(pending.token, (True, True)))
    (found,) = (each for each in solo.effects if isinstance(each, EvidenceFound))
    assert found.offender == 0


def test_an_answer_whose_blocks_are_no_chain_is_refused_and_a_late_one_is_not_blamed() -> None:
    solo = Solo()
    keys = solo.keys
    block1 = keys.make_block(1, keys.genesis)
    block2 = keys.make_block(2, keys.make_qc(block1))
    solo.receive(0, Advance(keys.make_qc(block2), None))
    (peer,) = next(to for to, each in solo.sent if isinstance(each, BlockRequest))
    stranger = keys.make_block(1, keys.genesis, time_ms=99)
    solo.receive(peer, BlockResponse((stranger,)))
    assert solo.refusals == []
    # It used its request up all the same.
    (second,) = [to for to, each in solo.sent if isinstance(each, BlockRequest)][-1]
    assert second != peer
    solo.receive(second, BlockResponse((block2, stranger)))
    assert solo.refusals == ["sync.chain_broken"]
    solo.receive(second, BlockResponse((block2, block1)))
    assert solo.core.statistics().tree_blocks == 0, "it is not asked any more"
    (third,) = [to for to, each in solo.sent if isinstance(each, BlockRequest)][-1]
    solo.receive(third, BlockResponse((block2, block1)))
    assert solo.committed == [1]


def make_samples() -> list[Message]:
    keys = KEYS
    block1 = keys.make_block(1, keys.genesis)
    qc1 = keys.make_qc(block1)
    tc2 = keys.make_tc(2, qc1, [((0, 1), 0, 0), ((2, 3), 1, 2)])
    block3 = keys.make_block(3, qc1, tc=tc2, lanes=(keys.certify_lane(0, 1),))
    return [
        keys.make_proposal(block1),
        keys.make_proposal(block3),
        keys.make_vote(0, block1),
        keys.make_timeout(0, 3, qc1, last_tc=tc2),
        Advance(qc1, tc2),
        BlockRequest(bytes(32), 0),
        BlockResponse((block1,)),
    ]


SAMPLES = [encode(message) for message in make_samples()]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from(SAMPLES),
            st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=3),
        ),
        max_size=12,
    )
)
def test_no_bytes_of_a_peer_end_the_process_or_sign_a_contradiction(
    deliveries: list[tuple[int, bytes, list[tuple[int, int]]]],
) -> None:
    solo = Solo()
    for sender, sample, flips in deliveries:
        mutated = bytearray(sample)
        for position, value in flips:
            mutated[position % len(mutated)] = value
        try:
            message: Message = decode(Message, bytes(mutated))  # type: ignore[arg-type]  # a union
        except DecodeError:
            continue
        solo.receive(sender, message)
    votes = solo.sent_of(Vote)
    assert len({vote.data.view for vote in votes}) == len({vote.data for vote in votes})


def test_a_certified_block_that_breaks_a_rule_halts_the_node() -> None:
    solo = Solo()
    keys = solo.keys
    _, qc1 = solo.extend(keys.genesis, 1, time_ms=50)
    backwards: Block = keys.make_block(2, qc1, time_ms=49)
    solo.propose(backwards)
    assert solo.refusals == ["block.time_not_above_parent"]
    solo.receive(0, Advance(keys.make_qc(backwards), None))
    (peer,) = next(to for to, each in solo.sent if isinstance(each, BlockRequest))
    solo.receive(peer, BlockResponse((backwards,)))
    assert [type(each).__name__ for each in solo.effects[-1:]] == ["Halt"]
    assert solo.core.step(solo.now_ms, Received(0, Advance(qc1, None))) == []


def test_a_certificate_that_contradicts_a_commit_halts_the_node() -> None:
    solo = Solo()
    keys = solo.keys
    qc3 = solo.run_views(3)
    solo.receive(0, Advance(qc3, None))
    assert solo.committed == [1, 2]
    fork = keys.make_block(9, keys.genesis)
    solo.receive(0, Advance(keys.make_qc(fork), None))
    assert solo.effects[-1].code == "consensus.conflicting_certificate"
