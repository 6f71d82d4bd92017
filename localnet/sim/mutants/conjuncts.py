"""Every condition that refuses or forbids something, and those of them that no mutant switches off.

The conditions are read from the product's source, so that a new one has to be in the table of
mutants or here.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import chain
from types import ModuleType
from typing import Final

from consensus import payload, recovery, safety, sync, validation
from localnet.sim.mutants.table import MUTANTS

EQUIVALENT: Final[dict[str, str]] = {
    "is_safe_to_vote: view == compute_view(state)": (
        "the one caller takes the view from `compute_view` at the end of the same step"
    ),
    "is_safe_to_propose: view == compute_view(state)": (
        "the one caller takes the view from `compute_view` at the end of the same step"
    ),
    "apply_vote: is_safe_to_vote(state, block, vote.view)": "asked before, and asserted again",
    "apply_timeout: is_safe_to_time_out(state)": "asked before, and asserted again",
    "apply_proposal: is_safe_to_propose(state, view)": "asked before, and asserted again",
    "validate_child: block.view <= parent.view": (
        "its certificate is of its parent's view, and `block.view_not_above_qc` holds against that"
    ),
    "validate_child: ancestor_id != state.header.block_id": (
        "a quorum commits what it certifies, and no block is justified beside what is committed"
    ),
    "recover: state.epoch != committee.epoch": (
        "a chain has one epoch: a record of another one is another chain's, which no fault brings"
    ),
    "sync.proof_missing": "blocks without a proof are taken as none, and another member is asked",
}
"""Without these nothing changes that anybody outside could see, for the reason given."""

ELSEWHERE: Final[dict[str, str]] = {
    **{
        f"{kind}.signers": "a bitmap of another size cannot be read: the reader raises"
        for kind in ("qc", "tc", "availability", "state")
    },
    **dict.fromkeys(
        (
            "compute_tip_view: vote is not None",
            "is_timed_out: timeout is not None",
            "is_justified: tc is not None",
            "apply_tc: state.high_tc is not None",
            "validate_child: state is not None",
        ),
        "None has no view and no height",
    ),
    "is_safe_to_vote: is_justified(block, view)": "its own conditions are switched off one by one",
    "is_safe_to_time_out: is_timed_out(state)": "its own condition is switched off",
}
"""Not conditions that could be left out alone."""

SOURCES: Final[dict[ModuleType, tuple[str, ...]]] = {
    safety: (),
    payload: ("is_lagging", "validate_child"),
    recovery: ("recover",),
}
"""Where every condition counts: these functions of a module, or all if none is named."""


CHECKING: Final[tuple[ModuleType, ...]] = (validation, sync)
"""Where every code that a message is refused under counts."""


def find_codes() -> set[str]:
    """The code of every check in `CHECKING`."""
    codes: set[str] = set()
    trees = (ast.parse(inspect.getsource(module)) for module in CHECKING)
    for node in chain.from_iterable(ast.walk(tree) for tree in trees):
        if not isinstance(node, ast.Call):
            continue
        for argument in node.args:
            if not isinstance(argument, ast.Constant | ast.JoinedStr):
                continue
            # `_require_timeout_views` puts the kind before the rule.
            written = ast.unparse(argument).strip("f'\"")
            kinds = ("tc", "timeout") if written.startswith("{kind}.") else ("",)
            codes.update(written.replace("{kind}", kind) for kind in kinds)
    return {code for code in codes if re.fullmatch(r"[a-z]+\.[a-z_]+", code)}


def find_conjuncts() -> set[str]:
    """Every condition in `SOURCES`, as `FUNCTION: CONDITION`."""
    return {conjunct for _, conjunct in _find_placed()}


def _find_placed() -> Iterator[tuple[str, str]]:
    """Every condition with the target that a mutant of it has."""
    for module, names in SOURCES.items():
        for function in ast.parse(inspect.getsource(module)).body:
            if isinstance(function, ast.FunctionDef) and (not names or function.name in names):
                for each in _walk(function):
                    target = f"{module.__name__}:{function.name}"
                    yield target, f"{function.name}: {ast.unparse(each)}"


def _walk(function: ast.FunctionDef) -> Iterator[ast.expr]:
    for node in ast.walk(function):
        match node:
            case ast.If(test=test) | ast.IfExp(test=test) | ast.Assert(test=test):
                yield from _split(test)
            case ast.Return(value=(ast.BoolOp() | ast.Compare()) as test):
                yield from _split(test)
            case _:
                pass


def _split(test: ast.expr) -> Iterator[ast.expr]:
    if isinstance(test, ast.BoolOp):
        for value in test.values:
            yield from _split(value)
    elif isinstance(test, ast.UnaryOp):
        yield from _split(test.operand)
    else:
        yield test


def find_uncovered() -> set[str]:
    """Conditions without a mutant and without a reason."""
    said = "\n".join(
        f"{each.rule}\n" + "\n".join(change.old for change in each.changes) for each in MUTANTS
    )
    missing = {code for code in find_codes() if code not in said}
    for target, conjunct in _find_placed():
        _, _, condition = conjunct.partition(": ")
        if not any(
            change.target == target and condition in " ".join(change.old.split())
            for each in MUTANTS
            for change in each.changes
        ):
            missing.add(conjunct)
    return missing - EQUIVALENT.keys() - ELSEWHERE.keys()
