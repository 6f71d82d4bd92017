"""docs/faults.md is the home of all kinds of faults, all expectations and all invariants."""

import re
from pathlib import Path
from typing import get_args

import pytest

import localnet
from localnet.faults.model import Fault, kind_of
from localnet.faults.orders import OrdersSeen
from localnet.faults.scenario import Expectation, parse_scenario
from localnet.faults.verdict import Seen, judge
from localnet.faults.words import as_option, fields_of

PAGE = (Path(localnet.__file__).parent.parent / "docs" / "faults.md").read_text()
SEEN = Seen(
    committed_height=1,
    fills=0,
    longest_pause_s=0.0,
    heals=(),
    orders=OrdersSeen(0, 0, 0, 0),
    liars=("node0",),
)


def find_row(start: str) -> str:
    """The first row of a table that begins so."""
    return next((line for line in PAGE.splitlines() if line.startswith(f"| {start}")), "")


@pytest.mark.parametrize("kind", get_args(Fault), ids=kind_of)
def test_every_kind_of_fault_has_a_row_with_its_parameters(kind) -> None:
    parameters = set(fields_of(kind)) - {"kind", "links", "nodes"}
    told = set(re.findall(r"`(--[a-z-]+)`", find_row(f"`{kind_of(kind)}`")))
    assert told == {as_option(each) for each in parameters}


def test_every_expectation_is_told() -> None:
    assert set(fields_of(Expectation)) <= set(re.findall(r"`(\w+)`", find_row("`[[expect]]`")))


def test_every_invariant_has_a_row_with_its_verdict() -> None:
    kill = '[[fault]]\nat = "1s"\nfor = "2s"\nkind = "kill"\nnodes = ["node1"]\n'
    _, findings = judge(parse_scenario("x", f'run_for = "20s"\n{kill}'), SEEN)
    assert {"faults_struck", "liars_ran"} <= {each.name for each in findings}
    for each in findings:
        assert f"| {each.verdict} |" in find_row(f"`{each.name}`"), each.name
