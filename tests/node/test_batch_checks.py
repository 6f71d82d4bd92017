"""Stored batches are checked again a few at a time, whatever the lanes have checked meanwhile."""

import pytest

from consensus.effects import CheckBatch
from consensus.lane_limits import RECHECKS_PENDING_MAX
from consensus.ownership import Component, Tokens
from consensus.types import BatchHeader, SignedBatchHeader
from node.batch_checks import BatchChecks
from node.recovery import StoredBatchHeader


def make_header(sequence):
    return SignedBatchHeader(
        BatchHeader(
            epoch=0,
            author=0,
            sequence=sequence,
            parent=bytes(32),
            body_digest=bytes(32),
            size_bytes=1,
        ),
        bytes(64),
    )


def make_stored(count):
    return [
        StoredBatchHeader(bytes([number]) * 32, make_header(number), bytes(32))
        for number in range(count)
    ]


def test_no_more_than_the_bound_are_under_way_and_each_end_makes_room_for_one():
    stored = make_stored(RECHECKS_PENDING_MAX + 3)
    checks = BatchChecks(Tokens(Component.NODE), stored)
    begun = checks.begin_rechecks()
    assert [each.batch_id for each in begun] == [
        each.batch_id for each in stored[:RECHECKS_PENDING_MAX]
    ]
    assert all(each.body is None for each in begun)
    assert checks.begin_rechecks() == []
    for number in range(3):
        finished = begun.pop(0)
        assert checks.finish(finished.token) == (
            finished.batch_id,
            finished.signed_header.header,
        )
        [more] = checks.begin_rechecks()
        assert more.batch_id == stored[RECHECKS_PENDING_MAX + number].batch_id
        begun.append(more)
    for each in begun:
        checks.finish(each.token)
        assert checks.begin_rechecks() == []


def test_checks_of_the_lanes_take_no_room_from_those():
    lanes = Tokens(Component.LANES)
    checks = BatchChecks(Tokens(Component.NODE), make_stored(RECHECKS_PENDING_MAX))
    effects = [
        CheckBatch(lanes.issue(), bytes([100]) * 32, make_header(9), bytes(32), b"body")
        for _ in range(5)
    ]
    for effect in effects:
        checks.add(effect)
    assert len(checks.begin_rechecks()) == RECHECKS_PENDING_MAX
    for effect in effects:
        assert checks.finish(effect.token) == (effect.batch_id, make_header(9).header)
    assert checks.begin_rechecks() == []


def test_a_verdict_ends_its_check_once():
    checks = BatchChecks(Tokens(Component.NODE), make_stored(1))
    [effect] = checks.begin_rechecks()
    checks.finish(effect.token)
    with pytest.raises(KeyError):
        checks.finish(effect.token)
