"""What the journal of a run tells: which faults struck, and which liars lied."""

import json

import pytest

from localnet.faults.strikes import Deeds, Strike, compute_deeds, find_idle, read_deeds

LINKS = {"kind": "delay", "links": ["node0>node1"], "nodes": [], "delay_ms": 5, "jitter_ms": 0}
LOSS = {"kind": "loss", "links": ["node0>node1"], "nodes": [], "permille": 100, "messages": []}


def on(kind, *nodes):
    return {"kind": kind, "nodes": list(nodes)}


def line(event, number=1, by="supervisor", **details):
    return {"at_ms": 1, "by": by, "event": event, "id": number, **details}


def strike(fault, *lines):
    (found,) = compute_deeds([line("added", fault=fault), *lines]).strikes
    return found


EXPIRED = line("expired")


@pytest.mark.parametrize(
    ("fault", "lines", "hits"),
    [
        (on("kill", "node1"), [line("began", node="node1")], 1),
        (on("pause", "node1", "node2"), [line("began", node=f"node{n}") for n in (1, 2)], 2),
        (on("clock-skew", "node1"), [line("began", by="node1")], 1),
        (LINKS, [line("began", by="proxy"), line("ended", by="proxy", hits=7)], 7),
        (
            LOSS,
            [
                line("began", by="node0"),
                line("ended", by="node0", hits=0),
                line("ended", by="node2", hits=3),
            ],
            3,
        ),
    ],
)
def test_a_fault_that_began_and_hit_something_and_ended_has_struck(fault, lines, hits):
    assert strike(fault, *lines, EXPIRED) == Strike(1, fault["kind"], hits)
    assert strike(fault, *lines).problem == "did not end"


@pytest.mark.parametrize(
    ("fault", "lines", "problem"),
    [
        (on("kill", "node1"), [], "did not strike node1"),
        (on("pause", "node1", "node2"), [line("began", node="node1")], "did not strike node2"),
        (on("clock-skew", "node1"), [line("began", by="node2")], "did not strike node1"),
        (on("disk-full", "node1"), [line("began", by="node1")], "did not strike node1"),
        (on("torn-write", "node1"), [line("began", by="node1")], "did not strike node1"),
        (LINKS, [], "did not begin"),
        (LINKS, [line("began", by="proxy"), line("ended", by="proxy", hits=0)], "hit nothing"),
        (LOSS, [line("began", by="node0"), line("ended", by="node0", hits=0)], "hit nothing"),
    ],
)
def test_a_fault_that_found_nothing_to_hit_has_not_struck(fault, lines, problem):
    found = strike(fault, *lines, EXPIRED)
    assert found.problem == problem
    assert find_idle([found], 1) == [f"fault 1, {fault['kind']}, {problem}"]


@pytest.mark.parametrize(("kind", "event"), [("disk-full", "refused"), ("torn-write", "torn")])
def test_a_bad_disk_names_the_file_that_it_hit(kind, event):
    hit = {"at_ms": 1, "by": "node1", "event": event, "ids": [1], "file": "chain.db-wal"}
    found = strike(on(kind, "node1"), hit, EXPIRED)
    assert (found.problem, found.files) == (None, ("node1/chain.db-wal",))


def test_faults_are_told_apart_and_those_that_never_came_are_missed():
    deeds = compute_deeds(
        [
            line("added", 1, fault=on("kill", "node1")),
            line("began", 1, node="node1"),
            line("added", 2, fault=on("kill", "node1")),
            line("expired", 1),
            line("expired", 2),
        ]
    )
    assert find_idle(deeds.strikes, 3) == [
        "fault 2, kill, did not strike node1",
        "1 of 3 faults were never asked for",
    ]


def test_the_lies_of_all_lives_of_a_liar_are_added_up(tmp_path):
    path = tmp_path / "faults.jsonl"
    assert read_deeds(path) == Deeds()
    lines = [{"at_ms": 1, "by": "node3", "event": "lied", "times": each} for each in (2, 3)]
    path.write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    assert read_deeds(path).lies == (("node3", 5),)
