"""Every error in a run names its rule, and the rule its verdict."""

import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import localnet.faults
import localnet.fuzz
import localnet.sim
import localnet.sim.oracles
from engine.errors import InvariantViolation
from localnet.sim.nodes import NotAtRestError
from localnet.sim.oracles.bounds import BoundExceededError
from localnet.sim.oracles.order import OneOrder
from localnet.sim.oracles.promises import Promises
from localnet.sim.oracles.replay import ReplayDiffersError
from localnet.sim.oracles.watchers import Watcher
from localnet.sim.scenario import LivenessLostError
from localnet.sim.violation import find_rule, make_violation
from node.events import BlockNotice, ReceiptUpdate
from node.protocol import ReceiptLevel

PACKAGES = (localnet.sim, localnet.sim.oracles, localnet.faults, localnet.fuzz)


def fail(error: Exception) -> None:
    raise error


def fail_within(module_name: str, error: Exception) -> None:
    """Raise from code of a module of this name."""
    module = ModuleType(module_name)
    module.error = error
    exec("def fail():\n    raise error", module.__dict__)
    module.fail()


class Particular(Watcher):
    """An oracle."""

    def check(self) -> None:
        raise AssertionError("broken")


@pytest.mark.parametrize(
    ("call", "oracle", "exit_code"),
    [
        (lambda: Particular().check(), "Particular", 20),
        (lambda: fail_within("engine.invariants", InvariantViolation("x")), "conservation", 20),
        (lambda: fail(BoundExceededError("x")), "MemoryBounds", 20),
        (lambda: fail(LivenessLostError("x")), "liveness", 21),
        (lambda: fail(NotAtRestError("x")), "rest", 21),
        (lambda: fail(ReplayDiffersError("x")), "replay", 22),
        (lambda: fail(ValueError("x")), "simulator", 1),
        (
            lambda: fail_within("consensus.chain", AssertionError("x")),
            "invariant of consensus.chain",
            1,
        ),
    ],
)
def test_every_violation_has_a_rule_and_a_verdict(call, oracle: str, exit_code: int) -> None:
    with pytest.raises((AssertionError, InvariantViolation, ValueError)) as caught:
        call()
    found, verdict = find_rule(caught.value)
    assert (found, verdict.exit_code) == (oracle, exit_code)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_the_package_describes_every_module_of_it(package: ModuleType) -> None:
    (directory,) = package.__path__
    names = {path.stem for path in Path(directory).glob("*.py")} - {"__init__"}
    described = set(re.findall(r"`(\w+)`", package.__doc__ or ""))
    assert names <= described


def test_a_violation_names_the_file_and_the_line() -> None:
    with pytest.raises(AssertionError) as caught:
        Particular().check()
    detail = make_violation(caught.value, 5, "attack").detail
    assert re.fullmatch(r"AssertionError: broken \(test_violation\.py:\d+ in check\)", detail)


def test_a_fork_names_both_blocks_and_both_nodes() -> None:
    order = OneOrder()
    block = SimpleNamespace(height=7)
    order.on_effect(1, BlockNotice(b"\x11" * 32, block))
    with pytest.raises(AssertionError) as caught:
        order.on_effect(3, BlockNotice(b"\x22" * 32, block))
    words = "node 3 disagrees at height 7: it has block 22222222, node 1 block 11111111"
    assert str(caught.value) == words


def test_a_receipt_that_falls_names_the_envelope() -> None:
    promises = Promises({})
    promises.on_start(0)
    promises.on_effect(0, ReceiptUpdate(b"\xab" * 32, b"", ReceiptLevel.ORDERED, 3, None))
    with pytest.raises(AssertionError, match="node 0: envelope abababab is available after ord"):
        promises.on_effect(0, ReceiptUpdate(b"\xab" * 32, b"", ReceiptLevel.AVAILABLE, 0, None))
