"""Whoever watches a world is told of what it asked for, and of nothing else."""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest

import localnet.sim.oracles
from consensus.effects import Persist, SetTimer, Store
from consensus.messages import Ack, Vote
from localnet.sim.oracles.watchers import Dispatch, Execution, Watcher
from localnet.sim.parts import ROOT, find_part

KINDS = {
    "on_effect": (SetTimer, Persist),
    "on_sent": (Vote, Ack),
    "on_received": (Ack, Vote),
    "on_durable": (Store.SAFETY, Store.ARCHIVE),
}
"""By hook: a kind that `Little` asks for and one for which it does not."""


class Everything(Watcher):
    """Looks at all that there is."""

    def on_effect(self, index: int, effect: Any) -> None:
        raise AssertionError("nothing happens here")

    on_sent = on_received = on_durable = on_executed = on_effect


class Little(Everything):
    """Looks at one kind of each thing."""

    effects = (SetTimer,)
    messages = (Vote,)
    arrivals = (Ack,)
    stores = (Store.SAFETY,)


class Nothing(Watcher):
    """Looks at nothing."""


def told(watchers: list[Watcher], hook: str, index: int, kind: Any) -> list[Watcher]:
    return [each.__self__ for each in getattr(Dispatch(watchers), hook)[index][kind]]


@pytest.mark.parametrize("hook", KINDS)
def test_a_watcher_is_told_of_the_kinds_that_it_names_or_of_all(hook: str) -> None:
    watchers = [Nothing(), Everything(), Little()]
    wanted, other = KINDS[hook]
    assert told(watchers, hook, 0, wanted) == watchers[1:]
    assert told(watchers, hook, 0, other) == [watchers[1]]


@pytest.mark.parametrize("hook", [*KINDS, "on_executed"])
def test_a_watcher_is_told_nothing_of_the_machines_that_are_exempt(hook: str) -> None:
    everything, honest = Everything(), Everything()
    honest.exempt = frozenset((2,))
    kind, _ = KINDS.get(hook, (Execution, None))
    assert told([everything, honest], hook, 1, kind) == [everything, honest]
    assert told([everything, honest], hook, 2, kind) == [everything]


def test_the_time_of_every_documented_oracle_counts_as_that_of_oracles() -> None:
    page = (Path(ROOT) / "docs" / "simulator.md").read_text()
    documented = set(re.findall(r"^\| `([A-Z]\w+)` \| (?:own|the product)", page, re.MULTILINE))
    package = localnet.sim.oracles
    owners: dict[str, str] = {}
    for found in iter_modules(package.__path__):
        module = import_module(f"{package.__name__}.{found.name}")
        for name, each in vars(module).items():
            if isinstance(each, type) and each.__module__ == module.__name__:
                owners[getattr(each, "oracle", name)] = str(module.__file__)
    assert "OneOrder" in documented
    assert {name: find_part(owners[name]) for name in documented} == dict.fromkeys(
        documented, "oracles"
    )
