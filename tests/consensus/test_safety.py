"""The rules of `consensus.safety`, one by one and as a machine under random pressure."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from consensus.safety import (
    SafetyState,
    apply_proposal,
    apply_qc,
    apply_tc,
    apply_timeout,
    apply_vote,
    compute_entry_tc,
    compute_timeout,
    compute_tip_view,
    compute_view,
    is_safe_to_propose,
    is_safe_to_time_out,
    is_safe_to_vote,
    is_timed_out,
    make_initial_state,
    make_prune_deletes,
    make_vote_puts,
)
from consensus.types import QC, TC, TimeoutGroup, VoteData
from crypto.codec import decode, encode
from localnet.sim.keys import Keys

KEYS = Keys()
GENESIS = KEYS.genesis
FRESH = make_initial_state(0, GENESIS)


def qc_of(view: int) -> QC:
    """A QC of a view whose signatures nobody looks at."""
    return QC(VoteData(0, view, view, bytes(32)), b"\x07", bytes(96)) if view else GENESIS


def tc_of(view: int, high_qc_view: int) -> TC:
    group = TimeoutGroup(high_qc_view, 0, b"\x07", bytes(96))
    return TC(0, view, (group,), qc_of(high_qc_view))


def vote_for(state: SafetyState, view: int, qc_view: int, tc: TC | None = None) -> SafetyState:
    block = KEYS.make_block(view, qc_of(qc_view), tc=tc)
    return apply_vote(state, block, KEYS.make_vote_data(block))


def test_the_view_is_one_above_the_newest_certificate() -> None:
    assert compute_view(FRESH) == 1
    assert compute_view(apply_qc(FRESH, qc_of(4))) == 5
    assert compute_view(apply_tc(apply_qc(FRESH, qc_of(4)), tc_of(7, 4))) == 8
    assert compute_view(apply_tc(apply_qc(FRESH, qc_of(9)), tc_of(7, 4))) == 10


def test_older_certificates_change_nothing() -> None:
    state = apply_tc(apply_qc(FRESH, qc_of(4)), tc_of(7, 4))
    assert apply_qc(state, qc_of(3)) == state
    assert apply_tc(state, tc_of(6, 4)) == state


@pytest.mark.parametrize(
    ("view", "qc_view", "tc", "expected"),
    [
        (6, 5, None, True),
        (6, 4, None, False),
        (6, 4, tc_of(5, 4), True),
        (6, 4, tc_of(5, 3), True),
        (6, 3, tc_of(5, 4), False),
        (6, 4, tc_of(4, 4), False),
        (7, 5, None, False),
        (5, 4, None, False),
    ],
)
def test_a_vote_needs_a_direct_qc_or_a_tc_that_allows_the_older_one(
    view: int, qc_view: int, tc: TC | None, expected: bool
) -> None:
    state = apply_qc(FRESH, qc_of(5))
    block = KEYS.make_block(view, qc_of(qc_view), tc=tc)
    assert is_safe_to_vote(state, block, view) is expected


def test_no_second_vote_in_a_view_and_none_below() -> None:
    state = vote_for(FRESH, 1, 0)
    assert not is_safe_to_vote(state, KEYS.make_block(1, GENESIS, time_ms=9), 1)
    following = KEYS.make_block(2, qc_of(1))
    state = apply_qc(state, qc_of(1))
    assert is_safe_to_vote(state, following, 2)
    assert not is_safe_to_vote(state, replace(following, epoch=1), 2)


def test_after_a_timeout_no_vote_but_after_a_vote_a_timeout() -> None:
    state = apply_timeout(FRESH, compute_timeout(FRESH))
    assert is_timed_out(state)
    assert not is_safe_to_time_out(state)
    assert not is_safe_to_vote(state, KEYS.make_block(1, GENESIS), 1)
    assert not is_safe_to_propose(state, 1)
    voted = vote_for(FRESH, 1, 0)
    assert is_safe_to_time_out(voted)
    assert compute_timeout(voted).data.tip_view == 1


def test_a_timeout_for_a_lock_that_was_lost_is_not_signed() -> None:
    state = vote_for(apply_qc(FRESH, qc_of(5)), 6, 5)
    amnesiac = replace(state, high_qc=qc_of(3))
    assert not is_safe_to_time_out(amnesiac)


def test_a_vote_takes_over_the_certificate_of_its_block() -> None:
    state = apply_tc(apply_qc(FRESH, qc_of(3)), tc_of(5, 3))
    voted = vote_for(state, 6, 4, tc_of(5, 3))
    assert voted.high_qc == qc_of(4)
    assert is_safe_to_time_out(voted)


def test_the_tip_is_the_vote_above_the_high_qc() -> None:
    state = vote_for(FRESH, 1, 0)
    assert compute_tip_view(state) == 1
    assert compute_tip_view(apply_qc(state, qc_of(1))) == 0
    assert compute_tip_view(apply_tc(state, tc_of(4, 0))) == 1


def test_the_entry_tc_is_there_only_when_the_qc_does_not_admit() -> None:
    state = apply_tc(FRESH, tc_of(3, 0))
    assert compute_entry_tc(state) == tc_of(3, 0)
    assert compute_entry_tc(apply_qc(state, qc_of(3))) is None


def test_one_proposal_a_view() -> None:
    assert is_safe_to_propose(FRESH, 1)
    assert not is_safe_to_propose(FRESH, 2)
    assert not is_safe_to_propose(apply_proposal(FRESH, 1, bytes(32)), 1)


def test_the_record_of_a_vote_holds_everything_a_restart_needs() -> None:
    block = KEYS.make_block(1, GENESIS)
    vote = KEYS.make_vote_data(block)
    state = apply_vote(FRESH, block, vote)
    puts = {put.table: put.value for put in make_vote_puts(state, block, vote)}
    assert decode(SafetyState, puts["safety"]) == state
    assert puts["vote"] == encode(vote)
    assert puts["pending_block"] == encode(block)


def test_pruning_covers_every_table_but_the_state() -> None:
    tables = {delete.table for delete in make_prune_deletes(5, 9)}
    assert tables == {"vote", "timeout", "proposal", "pending_block"}


decisions = st.one_of(
    st.tuples(st.just("qc"), st.integers(0, 12), st.integers(0, 12)),
    st.tuples(st.just("tc"), st.integers(1, 12), st.integers(0, 11)),
    st.tuples(st.just("vote"), st.integers(1, 13), st.integers(0, 12)),
    st.tuples(st.just("tc-vote"), st.integers(1, 13), st.integers(0, 12)),
    st.tuples(st.just("timeout"), st.just(0), st.just(0)),
    st.tuples(st.just("restart"), st.just(0), st.just(0)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(decisions, max_size=30))
def test_no_sequence_of_events_makes_the_state_contradict_itself(
    events: list[tuple[str, int, int]],
) -> None:
    state = FRESH
    votes: dict[int, int] = {}
    timed_out: set[int] = set()
    for kind, first, second in events:
        before = state
        match kind:
            case "qc":
                state = apply_qc(state, qc_of(first))
            case "tc" if second < first:
                # As in the core: the QC inside counts first.
                state = apply_tc(apply_qc(state, qc_of(second)), tc_of(first, second))
            case "vote" | "tc-vote":
                high = state.high_tc.high_qc.view if state.high_tc else 0
                tc = tc_of(first - 1, high) if kind == "tc-vote" and high < first - 1 else None
                block = KEYS.make_block(first, qc_of(second), tc=tc)
                if is_safe_to_vote(state, block, first):
                    assert first not in votes
                    assert first not in timed_out
                    votes[first] = second
                    state = apply_vote(state, block, KEYS.make_vote_data(block))
            case "timeout" if is_safe_to_time_out(state):
                timeout = compute_timeout(state)
                assert timeout.data.view not in timed_out
                # The lock: every parent certificate of a vote so far is covered.
                assert all(qc_view <= timeout.data.high_qc_view for qc_view in votes.values())
                timed_out.add(timeout.data.view)
                state = apply_timeout(state, timeout)
            case "restart":
                state = decode(SafetyState, encode(state))
            case _:
                pass
        assert state.last_voted_view >= before.last_voted_view
        assert state.one_chain_view >= before.one_chain_view
        assert compute_view(state) >= compute_view(before)
