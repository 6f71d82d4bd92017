"""Faults as data: what is taken, what is refused, and which links and nodes a text names."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localnet.faults.model import (
    BANDWIDTH_MAX_BYTES_PER_S,
    BANDWIDTH_MIN_BYTES_PER_S,
    DELAY_MAX_MS,
    DURATION_MAX_S,
    KINDS,
    RESET_INTERVAL_MIN_MS,
    SKEW_MAX_MS,
    TARGETS_MAX,
    Fault,
    FaultError,
    Link,
    compute_links,
    decode_fault,
    kind_of,
    parse_duration_s,
    parse_link,
    read_fault,
    shorten_links,
)
from localnet.faults.words import as_key, as_option

NODES = ("node0", "node1", "node2", "node3")

EXAMPLES = {
    "delay": {"links": ["0>1"], "delay_ms": DELAY_MAX_MS, "jitter_ms": 0},
    "loss": {"links": ["0>1"], "permille": 100},
    "duplicate": {"nodes": ["node2"], "permille": 1_000, "messages": ["vote"]},
    "reorder": {"links": ["*>1"], "permille": 10},
    "bandwidth": {"links": ["0<>1"], "bytes_per_s": 10_000},
    "partition": {"nodes": ["0", "1"]},
    "reset": {"links": ["*>*"]},
    "kill": {"nodes": ["node1"]},
    "pause": {"nodes": ["*"]},
    "clock-skew": {"nodes": ["3"], "offset_ms": -5_000},
    "disk-full": {"nodes": ["2"]},
    "torn-write": {"nodes": ["2"]},
}


def decode(kind: str, **parameters: object) -> Fault:
    return decode_fault({"kind": kind, **parameters}, NODES)


def links_of(fault: Fault) -> set[str]:
    return set(fault.links)  # type: ignore[union-attr]  # only faults on links are asked


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_and_names_what_there_is(kind):
    fault = decode(kind, **EXAMPLES[kind])
    assert kind_of(fault) == kind
    assert set(fault.nodes) <= set(NODES)


def test_a_link_is_one_direction_unless_both_are_asked_for():
    assert links_of(decode("delay", links=["0>1"], delay_ms=1)) == {"node0>node1"}
    assert links_of(decode("delay", links=["0<>1"], delay_ms=1)) == {"node0>node1", "node1>node0"}
    assert links_of(decode("delay", links=["*>2"], delay_ms=1)) == {
        "node0>node2",
        "node1>node2",
        "node3>node2",
    }


def test_a_partition_of_nodes_leaves_them_connected_among_themselves():
    links = links_of(decode("partition", nodes=["0", "1"]))
    assert len(links) == 8
    assert "node0>node1" not in links
    assert {"node0>node2", "node2>node0"} <= links


def test_other_faults_of_nodes_are_on_every_link_from_or_to_them():
    assert len(links_of(decode("delay", nodes=["0"], delay_ms=1))) == 6
    assert len(links_of(decode("delay", nodes=["0", "1"], delay_ms=1))) == 10


def test_a_decoded_link_is_read_back():
    fault = decode("reset", links=["0>3"])
    assert [parse_link(each) for each in fault.links] == [Link("node0", "node3")]
    assert compute_links(fault, NODES) == (Link("node0", "node3"),)  # type: ignore[arg-type]  # a reset is on links


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"kind": "earthquake", "nodes": ["0"]},
        {"kind": "kill"},
        {"kind": "kill", "nodes": []},
        {"kind": "kill", "nodes": ["node9"]},
        {"kind": "kill", "nodes": ["0"], "delay_ms": 5},
        {"kind": "delay", "links": ["0>1"]},
        {"kind": "delay", "links": ["0>1"], "delay_ms": DELAY_MAX_MS + 1},
        {"kind": "delay", "links": ["0>1"], "delay_ms": True},
        {"kind": "delay", "links": ["0-1"], "delay_ms": 1},
        {"kind": "delay", "links": ["0>0"], "delay_ms": 1},
        {"kind": "delay", "links": ["0>9"], "delay_ms": 1},
        {"kind": "delay", "delay_ms": 1},
        {"kind": "delay", "links": ["0>1"], "nodes": ["2"], "delay_ms": 1},
        {"kind": "partition", "nodes": ["*"]},
        {"kind": "delay", "links": ["0>1"], "delay_ms": 5, "jitter_ms": 6},
        {"kind": "loss", "links": ["0>1"], "permille": 0},
        {"kind": "loss", "links": ["0>1"], "permille": 1_001},
        {"kind": "bandwidth", "links": ["0>1"], "bytes_per_s": 1},
    ],
)
def test_what_makes_no_sense_is_refused(document):
    with pytest.raises(FaultError):
        decode_fault(document, NODES)


@pytest.mark.parametrize(
    ("kind", "parameter", "least", "most"),
    [
        ("delay", "delay_ms", 0, DELAY_MAX_MS),
        ("delay", "jitter_ms", 0, DELAY_MAX_MS),
        ("reorder", "hold_max_ms", 1, DELAY_MAX_MS),
        ("reset", "interval_ms", RESET_INTERVAL_MIN_MS, DELAY_MAX_MS),
        ("clock-skew", "offset_ms", -SKEW_MAX_MS, SKEW_MAX_MS),
        ("bandwidth", "bytes_per_s", BANDWIDTH_MIN_BYTES_PER_S, BANDWIDTH_MAX_BYTES_PER_S),
        ("loss", "permille", 1, 1_000),
    ],
)
def test_every_number_has_its_bounds(kind, parameter, least, most):
    for number in (least, most):
        fault = decode(kind, **{**EXAMPLES[kind], parameter: number})
        assert getattr(fault, parameter) == number
    for number in (least - 1, most + 1):
        with pytest.raises(FaultError):
            decode(kind, **{**EXAMPLES[kind], parameter: number})


def test_only_so_many_targets_are_named():
    decode("kill", nodes=["0"] * TARGETS_MAX)
    with pytest.raises(FaultError):
        decode("kill", nodes=["0"] * (TARGETS_MAX + 1))


@pytest.mark.parametrize(
    ("text", "duration_s"), [("30s", 30), ("500ms", 0.5), ("1.5m", 90), ("1h", 3_600)]
)
def test_durations_have_a_unit(text, duration_s):
    assert parse_duration_s(text) == duration_s


@given(st.text(max_size=8))
def test_any_other_text_is_no_duration(text):
    with contextlib.suppress(FaultError):
        assert 0 <= parse_duration_s(text) <= DURATION_MAX_S


@pytest.mark.parametrize("text", ["", "5", "s", "2h", "-1s", "1e3s", "nan s"])
def test_durations_without_unit_or_bound_are_refused(text):
    with pytest.raises(FaultError):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("document", "as_file", "as_command"),
    [
        (
            {"kind": "delay", "links": ["0>1"]},
            "delay needs delay_ms",
            "delay needs --delay-ms",
        ),
        (
            {"kind": "kill", "links": ["0>1"]},
            'kill is on nodes: nodes = ["node2"]',
            "kill is on nodes: --nodes 'node2'",
        ),
        ({"kind": "kill"}, "kill needs nodes", "kill needs --nodes"),
        (
            {"kind": "kill", "nodes": ["0"], "delay_ms": 5},
            "kill takes no delay_ms; it takes nodes",
            "kill takes no --delay-ms; it takes --nodes",
        ),
        (
            {"kind": "delay", "links": ["0>1"], "delay_m": 5, "delay_ms": 5},
            "delay takes no delay_m; did you mean 'delay_ms'?",
            "delay takes no --delay-m; did you mean '--delay-ms'?",
        ),
        (
            {"kind": "delay", "links": ["0>1"], "delay_ms": DELAY_MAX_MS + 1},
            f"delay: delay_ms is to be at most {DELAY_MAX_MS}",
            f"delay: --delay-ms is to be at most {DELAY_MAX_MS}",
        ),
        (
            {"kind": "delay", "links": ["0>1"], "delay_ms": "5"},
            "delay: delay_ms is to be a whole number, not text in quotes",
            "delay: --delay-ms is to be a whole number, not text in quotes",
        ),
        (
            {"kind": "delay", "links": ["0>1"], "delay_ms": 5, "jitter_ms": 6},
            "jitter_ms 6 is above delay_ms 5",
            "--jitter-ms 6 is above --delay-ms 5",
        ),
        (
            {"kind": "reset"},
            "reset needs either links or nodes",
            "reset needs either --links or --nodes",
        ),
        ({}, "a fault needs a kind", "a fault needs a kind"),
        (
            {"kind": "partion", "nodes": ["1"]},
            "there is no fault 'partion'; did you mean 'partition'?",
            "there is no fault 'partion'; did you mean 'partition'?",
        ),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_whoever_wrote_it(document, as_file, as_command):
    for spell, words in [(as_key, as_file), (as_option, as_command)]:
        with pytest.raises(FaultError) as caught:
            read_fault(document, spell)
        assert caught.value.message == words


def test_a_partition_of_all_nodes_is_told_why_it_cuts_nothing():
    with pytest.raises(FaultError, match="a partition of all nodes cuts nothing"):
        decode("partition", nodes=["*"])
    assert len(links_of(decode("partition", links=["*>*"]))) == 12


def test_a_link_of_a_node_to_itself_is_told_as_none():
    with pytest.raises(FaultError) as caught:
        decode("delay", links=["0>0"], delay_ms=5)
    assert caught.value.message == "delay is on no link: none leads from a node to itself"
    assert caught.value.advice.startswith("name two nodes, as in 0>1; nodes: node0")


@pytest.mark.parametrize(
    ("texts", "short"),
    [
        (["*>*"], ["*>*"]),
        (["2<>*"], ["node2<>*"]),
        (["2>*", "*>2", "0>1"], ["node2<>*", "node0>node1"]),
        (["*>3"], ["*>node3"]),
        (["1>*", "0>2"], ["node1>*", "node0>node2"]),
        (["1>0", "0>1", "2>3"], ["node0<>node1", "node2>node3"]),
        (["0<>*", "1<>*"], ["node0<>*", "node1<>*"]),
    ],
)
def test_links_are_shown_in_few_words_that_mean_the_same(texts, short):
    links = [parse_link(each) for each in decode("partition", links=texts).links]
    assert shorten_links(links, NODES) == short


@given(st.sets(st.sampled_from([Link(a, b) for a in NODES for b in NODES if a != b]), min_size=1))
def test_any_links_are_read_back_from_how_they_are_shown(links):
    assert links_of(decode("partition", links=shorten_links(links, NODES))) == set(map(str, links))
