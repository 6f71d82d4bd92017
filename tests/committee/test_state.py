"""The order state advances from plain data and is rebuilt from a snapshot."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from committee.committee import Committee, Member
from committee.state import EvidenceRecord, OrderState, OrderStateError
from crypto.digest import ZERO_DIGEST

SIZE = 4
KINDS = ("vote", "timeout", "batch")


def make_committee(power: int = 1) -> Committee:
    return Committee(
        0,
        tuple(
            Member(
                f"member-{number}",
                power + number,
                bytes([number]) * 48,
                bytes(96),
                bytes([number]) * 32,
                bytes([number + 100]) * 32,
            )
            for number in range(SIZE)
        ),
    )


def make_state() -> OrderState:
    return OrderState(make_committee(), 1000)


def apply(state: OrderState, cursors=(), evidence=(), certified_height=None):
    return state.apply_block(
        height=state.height + 1,
        time_ms=state.time_ms + 1,
        cursors=dict(cursors),
        evidence=evidence,
        certified_height=certified_height,
    )


def test_a_new_state_is_before_the_first_block():
    state = make_state()
    assert (state.height, state.time_ms, state.certified_height) == (0, 1000, 0)
    assert state.lane_cursor(3) == (0, ZERO_DIGEST)
    assert state.convictions() == ()


def test_cursors_time_and_certificates_advance():
    state = make_state()
    apply(state, {1: (5, b"a" * 32)})
    apply(state, {1: (7, b"b" * 32), 0: (1, b"c" * 32)}, certified_height=1)
    apply(state)
    assert (state.height, state.time_ms, state.certified_height) == (3, 1003, 1)
    assert state.lane_cursor(1) == (7, b"b" * 32)
    assert state.lane_cursor(0).sequence == 1
    assert state.lane_cursor(2).sequence == 0


def test_the_first_conviction_of_a_kind_counts_and_the_rest_leave_no_trace():
    state, twin = make_state(), make_state()
    first = EvidenceRecord(b"1" * 32, 2, "vote", 1)
    other_kind = EvidenceRecord(b"2" * 32, 2, "batch", 1)
    assert apply(state, evidence=(first, other_kind, first)) == (first, other_kind)
    assert apply(state, evidence=(EvidenceRecord(b"3" * 32, 2, "vote", 2),)) == ()
    assert state.convictions() == (other_kind, first)
    apply(twin, evidence=(other_kind, first))
    apply(twin)
    assert state.root() == twin.root()


@pytest.mark.parametrize("change", [{"height": 3}, {"height": 1, "time_ms": 1000}])
def test_blocks_out_of_order_are_a_fault_of_ours(change):
    plain = {"height": 1, "time_ms": 1001, "cursors": {}, "evidence": (), "certified_height": None}
    with pytest.raises(AssertionError):
        make_state().apply_block(**(plain | change))


def test_a_lane_never_moves_back():
    state = make_state()
    apply(state, {0: (5, b"a" * 32)})
    with pytest.raises(AssertionError):
        apply(state, {0: (5, b"a" * 32)})


def test_the_root_covers_everything():
    changes = [
        lambda state: None,
        lambda state: apply(state),
        lambda state: apply(state, {0: (1, b"a" * 32)}),
        lambda state: apply(state, {0: (2, b"a" * 32)}),
        lambda state: apply(state, {0: (1, b"b" * 32)}),
        lambda state: apply(state, {1: (1, b"a" * 32)}),
        lambda state: apply(state, evidence=(EvidenceRecord(b"1" * 32, 2, "vote", 1),)),
        lambda state: (apply(state), apply(state)),
        lambda state: (apply(state), apply(state, certified_height=1)),
    ]
    roots = [
        OrderState(make_committee(power=5), 1000).root(),
        OrderState(make_committee(), 1).root(),
    ]
    for change in changes:
        state = make_state()
        change(state)
        roots.append(state.root())
    assert len(set(roots)) == len(roots)


steps = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, SIZE - 1), st.integers(1, 9), max_size=SIZE),
        st.lists(st.tuples(st.integers(0, SIZE - 1), st.sampled_from(KINDS)), max_size=3),
        st.booleans(),
    ),
    max_size=15,
)


@given(steps, st.integers(0, 15))
@settings(max_examples=80, deadline=None)
def test_a_snapshot_and_the_tail_equal_the_live_state(plan, cut):
    live, tail = make_state(), make_state()
    for number, (moves, offences, is_certified) in enumerate(plan):
        if number == cut:
            tail = OrderState.restore(live.snapshot(), live.root())
        height = live.height + 1
        cursors = {
            author: (live.lane_cursor(author).sequence + step, bytes([step]) * 32)
            for author, step in moves.items()
        }
        evidence = [
            EvidenceRecord(bytes([number, index]) * 16, offender, kind, height)
            for index, (offender, kind) in enumerate(offences)
        ]
        certified_height = height // 2 if is_certified else None
        results = [apply(state, cursors, evidence, certified_height) for state in (live, tail)]
        assert results[0] == results[1]
    assert tail.root() == live.root()
    assert tail.snapshot() == live.snapshot()
    assert len(live.convictions()) <= SIZE * len(KINDS)


def test_a_snapshot_is_refused_unless_it_is_exactly_of_the_root():
    state = make_state()
    apply(state, {0: (1, b"a" * 32)}, (EvidenceRecord(b"1" * 32, 2, "vote", 1),))
    data, root = state.snapshot(), state.root()
    assert OrderState.restore(data, root).snapshot() == data
    for bad_data, bad_root in (
        (data, bytes(32)),
        (make_state().snapshot(), root),
        (data[:-1], root),
        (data + b"\x00", root),
        (b"", root),
    ):
        with pytest.raises(OrderStateError):
            OrderState.restore(bad_data, bad_root)
