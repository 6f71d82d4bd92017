"""Batches of earlier lives are opened many at a time, in order, and not far ahead of delivery."""

import pytest

from consensus.ownership import Component, Tokens
from consensus.types import BatchHeader
from node.batch_checks import (
    OPENED_AHEAD_HEIGHTS,
    OPENED_BATCHES_MAX,
    OPENED_SIZE_MAX_BYTES,
    OPENINGS_MAX,
    Openings,
)
from node.recovery import DeliveredHeader


def make_delivered(count, *, size_bytes=1, heights=lambda number: 1):
    return [
        DeliveredHeader(
            heights(number),
            number.to_bytes(32, "big"),
            BatchHeader(0, 0, number + 1, bytes(32), number.to_bytes(32, "big"), size_bytes),
        )
        for number in range(count)
    ]


def make_openings(batches):
    return Openings(Tokens(Component.NODE), batches)


def ids(effects):
    return [[each.batch_id for each in effect.batches] for effect in effects]


def test_many_batches_share_a_request_and_each_answer_makes_room_for_another():
    batches = make_delivered((OPENINGS_MAX + 1) * OPENED_BATCHES_MAX + 3)
    openings = make_openings(batches)
    begun = openings.begin(0)
    assert [len(effect.batches) for effect in begun] == [OPENED_BATCHES_MAX] * OPENINGS_MAX
    assert openings.begin(0) == []
    asked = []
    while begun:
        first = begun.pop(0)
        answered = openings.finish(first.token)
        assert [(each.batch_id, each.body_digest) for each in first.batches] == [
            (each.batch_id, each.header.body_digest) for each in answered
        ]
        asked += answered
        begun += openings.begin(0)
    assert asked == batches


def test_a_request_is_bounded_in_bytes_but_takes_one_batch_of_any_size():
    batches = make_delivered(3, size_bytes=OPENED_SIZE_MAX_BYTES // 2)
    batches += make_delivered(1, size_bytes=2 * OPENED_SIZE_MAX_BYTES)
    openings = make_openings(batches)
    assert [len(effect.batches) for effect in openings.begin(0)] == [2, 1, 1]


def test_batches_far_above_what_is_delivered_wait():
    batches = make_delivered(OPENED_AHEAD_HEIGHTS + 2, heights=lambda number: number + 1)
    openings = make_openings(batches)
    opened = 0
    while begun := openings.begin(0):
        opened += sum(len(openings.finish(effect.token)) for effect in begun)
    assert opened == OPENED_AHEAD_HEIGHTS
    assert ids(openings.begin(1)) == [[batches[-2].batch_id]]


def test_an_answer_ends_its_request_once():
    openings = make_openings(make_delivered(1))
    [effect] = openings.begin(0)
    openings.finish(effect.token)
    with pytest.raises(KeyError):
        openings.finish(effect.token)
