"""Which faults leave a quorum that has to go on."""

import pytest

from localnet.faults.model import decode_fault
from localnet.faults.quorum import (
    HARMLESS_DELAY_MAX_MS,
    HARMLESS_LOSS_MAX_PERMILLE,
    has_quorum,
)

FOUR = ("node0", "node1", "node2", "node3")
SEVEN = (*FOUR, "node4", "node5", "node6")


def whole(*documents, nodes=FOUR, faulty=()):
    return has_quorum([decode_fault(each, nodes) for each in documents], nodes, faulty)


@pytest.mark.parametrize("kind", ["kill", "pause", "disk-full", "torn-write"])
def test_one_of_four_may_fail_and_two_may_not(kind):
    assert whole({"kind": kind, "nodes": ["1"]})
    assert not whole({"kind": kind, "nodes": ["1", "2"]})
    assert not whole({"kind": kind, "nodes": ["1"]}, {"kind": kind, "nodes": ["2"]})


def test_a_fault_of_a_liar_takes_nothing_and_one_of_somebody_else_does():
    kill = {"kind": "kill", "nodes": ["5"]}
    assert whole(kill, nodes=SEVEN, faulty=("node5", "node6"))
    assert not whole({**kill, "nodes": ["4"]}, nodes=SEVEN, faulty=("node5", "node6"))


def test_links_take_the_quorum_when_no_enough_nodes_hear_each_other():
    assert whole({"kind": "partition", "nodes": ["3"]})
    assert whole({"kind": "partition", "links": ["1>*"]})
    assert not whole({"kind": "partition", "nodes": ["0", "1"]})
    assert not whole({"kind": "partition", "links": ["0>1", "2>3"]})
    assert not whole({"kind": "reset", "links": ["*>*"]})


def test_what_only_slows_down_leaves_a_quorum_up_to_a_bound():
    everywhere = {"links": ["*>*"]}
    delay = {"kind": "delay", "delay_ms": HARMLESS_DELAY_MAX_MS - 1, **everywhere}
    assert whole({**delay, "jitter_ms": 1})
    assert not whole({**delay, "jitter_ms": 2})
    loss = {"kind": "loss", "permille": HARMLESS_LOSS_MAX_PERMILLE, **everywhere}
    assert whole(loss)
    assert not whole({**loss, "permille": HARMLESS_LOSS_MAX_PERMILLE + 1})
    assert whole({"kind": "duplicate", "permille": 1_000, **everywhere})
    assert whole({"kind": "clock-skew", "nodes": ["*"], "offset_ms": 5})
