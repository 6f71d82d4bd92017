"""Scenario files: strictness, what a storm comes to, and all that come with the program."""

from itertools import pairwise

import pytest

from localnet.faults.model import FaultError, Kill, decode_fault, kind_of, parse_duration_s
from localnet.faults.quorum import has_quorum
from localnet.faults.scenario import (
    ENTRIES_MAX,
    FILE_MAX_BYTES,
    SCENARIOS_DIR,
    ScenarioError,
    Twin,
    find_scenario,
    load_scenario,
    parse_scenario,
)
from localnet.faults.twins import with_twins
from localnet.network import create_network
from localnet.plans import node_plan, proxy_plan
from localnet.verdicts import Verdict
from node.exit_codes import ExitCode

SHIPPED = sorted(SCENARIOS_DIR.glob("*.toml"))

LONG_RUNS_S = {"hailstorm": 600, "crash_day": 120, "options_day": 160}
"""Of scenarios that show what takes its time."""

STORM = """
run_for = "5m"
seed = {seed}

[[storm]]
from = "10s"
until = "4m"
for = ["2s", "4s"]
calm = ["3s", "5s"]
fault = [
  {{ kind = "kill", one_of = ["node0", "node1"] }},
  {{ kind = "delay", links = ["*>*"], delay_ms = 20 }},
]
"""


def test_a_dozen_scenarios_and_more_come_with_the_program():
    assert len(SHIPPED) >= 12


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_scenario_says_what_it_shows_and_is_short(path):
    scenario = load_scenario(path)
    assert len(scenario.shows) > 40
    assert scenario.run_for_s <= LONG_RUNS_S.get(path.stem, 40)
    assert find_scenario(path.stem) == path


def test_faults_and_liars_come_in_order_of_time_and_are_healed_or_last():
    scenario = parse_scenario(
        "x",
        """# What it
# shows.

# Not this.
run_for = "30s"
[[fault]]
at = "9s"
for = "2s"
kind = "kill"
nodes = ["node1"]
[[fault]]
at = "500ms"
kind = "partition"
nodes = ["node2"]
[[byz]]
node = "node3"
behaviour = "silent"
at = "2s"
for = "5s"
""",
    )
    assert scenario.shows == "What it shows."
    assert [(each.at_s, each.for_s) for each in scenario.faults] == [(0.5, None), (9, 2)]
    assert scenario.faults[1].document == {"kind": "kill", "nodes": ["node1"]}
    assert scenario.liars == ((2, "node3", "silent"), (7, "node3", None))


@pytest.mark.parametrize("kind", ["kill", "pause", "disk-full", "torn-write"])
@pytest.mark.parametrize("at", ["0s", "1s"])
def test_only_what_needs_no_running_node_is_there_before_they_start(kind, at):
    text = f'run_for = "5s"\n[[fault]]\nat = "{at}"\nkind = "{kind}"\nnodes = ["0"]'
    (fault,) = parse_scenario("x", text).faults
    is_early = at == "0s" and kind not in ("kill", "pause")
    assert fault.is_there_from_the_start == is_early


def test_a_storm_follows_from_the_seed_and_leaves_calm_between_its_faults():
    first = parse_scenario("x", STORM.format(seed=1)).faults
    assert first == parse_scenario("x", STORM.format(seed=1)).faults
    assert first != parse_scenario("x", STORM.format(seed=2)).faults
    assert len(first) > 20
    for one, next_ in pairwise(first):
        assert one.for_s is not None
        assert 2 <= one.for_s <= 4
        assert 3 - 0.01 <= next_.at_s - one.at_s - one.for_s <= 5 + 0.01
    nodes = tuple(f"node{index}" for index in range(4))
    kinds = {decode_fault(each.document, nodes).__class__.__name__ for each in first}
    assert kinds == {"Kill", "Delay"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "run_for = 5",
        'run_for = "5"',
        'run_for = "5s"\nnodes = 3',
        'run_for = "5s"\nunknown = 1',
        'run_for = "5s"\nverdict = "fine"',
        'run_for = "5s"\n[[fault]]\nkind = "kill"',
        'run_for = "5s"\n[[fault]]\nkind = "kill"\nnodes = ["node7"]',
        'run_for = "5s"\n[[fault]]\nat = "6s"\nkind = "kill"\nnodes = ["node1"]',
        'run_for = "5s"\n[[fault]]\nfor = "0s"\nkind = "kill"\nnodes = ["node1"]',
        'run_for = "5s"\n[[byz]]\nnode = "node1"\nbehaviour = "kind"',
        'run_for = "5s"\n[[byz]]\nnode = "node9"\nbehaviour = "silent"',
        'run_for = "5s"\n[[expect]]\n',
        'run_for = "5s"\n[[expect]]\nheight_at_least = 1\nfills_at_least = 1',
        'run_for = "5s"\n[[expect]]\ncommits_within = "soon"',
        'run_for = "5s"\n[[expect]]\nevidence_against = "node9"',
        'run_for = "5s"\n[[storm]]\nuntil = "4s"\nfor = ["4s", "2s"]\n'
        'fault = [{kind = "kill", nodes = ["0"]}]',
        'run_for = "5s"\n[[storm]]\nuntil = "4s"\nfault = [{kind = "kill", one_of = []}]',
        'run_for = "5s"\n[[twin]]\nnode = "node1"\nbeside = ["node1"]',
        'run_for = "5s"\n[[twin]]\nnode = "node1"\nbeside = []',
        'run_for = "5s"\n[[twin]]\nnode = "node1"\nbeside = ["node9"]',
        'run_for = "5s"\n'
        + "".join(f'[[byz]]\nnode = "node{n}"\nbehaviour = "silent"\n' for n in range(3))
        + '[[twin]]\nnode = "node3"\nbeside = ["node0"]',
        'run_for = "5s"\n'
        + "".join(f'[[byz]]\nnode = "node{n}"\nbehaviour = "silent"\n' for n in range(4)),
        'run_for = "5s"\n[[expect]]\nno_double_sign = true',
        'run_for = "0s"',
        'run_for = "4s"',
        'run_for = "5s"\n[[storm]]\nuntil = "4s"\nfault = [{kind = "kill", one_of = 5}]',
        "not toml",
    ],
)
def test_what_makes_no_sense_is_refused(text):
    with pytest.raises((ScenarioError, FaultError)) as caught:
        parse_scenario("x", text)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_file_has_only_so_many_bytes_and_entries(tmp_path):
    path = tmp_path / "long.toml"
    text = 'run_for = "5s"\n'
    path.write_text(text + "#" * (FILE_MAX_BYTES - len(text)))
    load_scenario(path)
    path.write_text(text + "#" * (FILE_MAX_BYTES - len(text) + 1))
    with pytest.raises(ScenarioError, match="too large"):
        load_scenario(path)
    kill = '[[fault]]\nkind = "kill"\nnodes = ["0"]\n'
    assert len(parse_scenario("x", text + kill * ENTRIES_MAX).faults) == ENTRIES_MAX
    with pytest.raises(ScenarioError):
        parse_scenario("x", text + kill * (ENTRIES_MAX + 1))


def test_a_storm_comes_to_only_so_many_faults():
    text = """
run_for = "1h"
[[storm]]
until = "59m"
for = ["100ms", "100ms"]
calm = ["0s", "0s"]
fault = [{ kind = "kill", nodes = ["0"] }]
"""
    assert len(parse_scenario("x", text).faults) == ENTRIES_MAX


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ScenarioError, match="absent"):
        find_scenario(str(tmp_path / "absent.toml"))
    with pytest.raises(ScenarioError) as caught:
        load_scenario(tmp_path / "absent.toml")
    assert caught.value.message == f"cannot read {tmp_path}/absent.toml: No such file or directory"


def test_twins_listen_elsewhere_and_are_dialed_by_those_beside_them(tmp_path):
    network = create_network(tmp_path / "net", port_first=18_000)
    plans = [node_plan(network, node.name, has_bad_parts=True) for node in network.nodes]
    twins = (Twin("node2", ("node1",)), Twin("node3", ("node1",)))
    changed = with_twins(network, [*plans, proxy_plan(network)], twins)
    by_name = {plan.name: plan.arguments for plan in changed}
    routes = ("--route", "node2=node2twin", "--route", "node3=node3twin")
    assert by_name["node0"] == plans[0].arguments
    assert by_name["node1"] == plans[1].arguments + routes
    assert by_name["node2"] == plans[2].arguments
    assert by_name["node2twin"][-4:] == routes
    assert str(network.path / "node2twin") in by_name["node2twin"]
    assert (network.path / "node2twin" / "node.toml").exists()
    listening = {word for word in by_name["node3twin"] if word.startswith("peer.listen=")}
    (target,) = (word for word in by_name["proxy"] if word.startswith("node3twin="))
    assert {f"peer.listen={target.removeprefix('node3twin=')}"} == listening
    assert with_twins(network, plans, ()) == plans


def test_the_hailstorm_leaves_time_to_judge_each_heal_and_overlaps_what_takes_no_quorum():
    storm = load_scenario(SCENARIOS_DIR / "hailstorm.toml")
    nodes = tuple(f"node{index}" for index in range(storm.nodes))
    liars = {each.node for each in storm.liars}
    spans = []
    for each in storm.faults:
        assert each.for_s is not None
        fault = decode_fault(each.document, nodes)
        spans.append((each.at_s, each.at_s + each.for_s, has_quorum([fault], nodes, liars), fault))
    grave = [each for each in spans if not each[2]]
    assert len(grave) > 25
    for one, next_ in pairwise(grave):
        assert next_[0] - one[1] >= storm.heal_within_s
    mild = [each for each in spans if each[2]]
    overlaps = [(a, b) for a in grave for b in mild if a[0] < b[1] and b[0] < a[1]]
    assert len(overlaps) > 10
    killed = {name for *_, fault in spans if isinstance(fault, Kill) for name in fault.nodes}
    assert killed >= {"node0", "node1", "node2", "node3", "node5", "node6"}
    kinds = {kind_of(fault) for *_, fault in spans}
    assert len(kinds) == 8


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_scenario_expects_something_that_only_it_shows(path):
    scenario = load_scenario(path)
    assert scenario.expectations or scenario.verdict != "pass"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a scenario needs run_for"),
        ("run_for = 5", "a scenario: run_for is to be text in quotes, not a whole number"),
        ('run_for = "0s"', "a run of 0s shows nothing"),
        ('run_for = "5s"\nfaults = 1', "a scenario takes no faults; did you mean 'fault'?"),
        ('run_for = "5s"\nnodes = 3', "a scenario: nodes is to be at least 4"),
        (
            'run_for = "5s"\n[[fault]]\nkind = "kill"\nnodes = ["1"]\n'
            '[[fault]]\nkind = "partion"\nnodes = ["1"]',
            "[[fault]] 2: there is no fault 'partion'; did you mean 'partition'?",
        ),
        (
            'run_for = "5s"\n[[fault]]\nkind = "delay"\nlinks = ["0>1"]',
            "[[fault]] 1: delay needs delay_ms",
        ),
        (
            'run_for = "5s"\n[[storm]]\nuntil = "4s"\n'
            'fault = [{kind = "kill", nodes = ["1"]}, {kind = "pause", one_of = ["9"]}]',
            "[[storm]] 1: fault 2: there is no node '9' here",
        ),
        ('run_for = "5s"\n[[byz]]\nbehaviour = "silent"', "[[byz]] 1 needs node"),
        (
            'run_for = "5s"\n[[byz]]\nnode = "node1"\nbehaviour = "silen"',
            "[[byz]] 1: there is no behaviour 'silen'; did you mean 'silent'?",
        ),
        (
            'run_for = "5s"\n[[expect]]\nfills_at_least = "1"',
            "[[expect]] 1: fills_at_least is to be a whole number, not text in quotes",
        ),
        (
            'run_for = "5s"\n[[expect]]\ncommit_within = "1s"',
            "[[expect]] 1 takes no commit_within; did you mean 'commits_within'?",
        ),
        (
            'run_for = "5s"\n[[byz]]\nnode = "node1"\nbehaviour = "silent"\nzz = 1',
            "[[byz]] 1 takes no zz; it takes node, behaviour, at, for",
        ),
        (
            'run_for = "5s"\n[[expect]]\nfills_at_least = 1\nheight_at_least = 1',
            "[[expect]] 1 has height_at_least and fills_at_least: each has one",
        ),
        ('run_for = "5s"\n[[expect]]', "[[expect]] 1 has no key: each has one"),
        (
            'run_for = "5s"\nverdict = "bad"',
            f"a scenario: verdict is to be one of {', '.join(Verdict)}, not 'bad'",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_place(text, words):
    with pytest.raises(ScenarioError) as caught:
        parse_scenario("x", text)
    assert caught.value.message == words


def test_an_unknown_name_is_told_where_the_known_ones_are(tmp_path):
    with pytest.raises(ScenarioError, match=r"'kil_one'; did you mean 'kill_one'\?") as caught:
        find_scenario("kil_one")
    assert "`rota fault scenarios` lists" in caught.value.advice
    with pytest.raises(ScenarioError, match="is a folder"):
        find_scenario(str(tmp_path))


def test_a_pause_that_a_shipped_scenario_allows_holds_on_a_slow_machine():
    for path in SHIPPED:
        scenario = load_scenario(path)
        for expectation in scenario.expectations:
            if expectation.commits_within is not None:
                assert parse_duration_s(expectation.commits_within) >= 15, path.stem


@pytest.mark.parametrize(
    "value", ["9" * 5_000, "9" * 4_000, "[" * 2_000 + "]" * 2_000], ids=["long", "large", "deep"]
)
def test_what_is_toml_but_cannot_be_held_is_refused(value):
    with pytest.raises(ScenarioError):
        parse_scenario("x", f'run_for = "5s"\nnodes = {value}')
