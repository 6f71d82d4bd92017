"""Answers find their way back by name alone."""

import pytest

from consensus.effects import SetTimer, Sign
from consensus.ownership import Component, Tokens, find_timer_owner, make_timer_name
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.watchers import Watcher


def test_a_token_is_issued_once():
    tokens = Tokens(Component.LANES)
    issued = [tokens.issue() for _ in range(100)]
    assert len(set(issued)) == 100
    assert {token.component for token in issued} == {"lanes"}


@pytest.mark.parametrize("component", Component)
def test_the_owner_of_a_timer_follows_from_its_name(component):
    assert find_timer_owner(make_timer_name(component, "one/other")) == component


def test_every_timer_and_token_of_a_node_names_its_component():
    owners = {SetTimer: set(), Sign: set()}

    class Owners(Watcher):
        def on_effect(self, index, effect):
            if isinstance(effect, SetTimer):
                owners[SetTimer].add(find_timer_owner(effect.name))
            elif isinstance(effect, Sign):
                owners[Sign].add(effect.token.component)

    cluster = NodeCluster(9)
    cluster.world.observers.append(Owners())
    cluster.start()
    cluster.trade(10, 300)
    cluster.run(300)
    cluster.settle()
    assert owners[SetTimer] <= set(Component)
    assert {Component.CONSENSUS, Component.LANES, Component.CHECKPOINTS} <= owners[SetTimer]
    assert owners[Sign] == {Component.CONSENSUS, Component.LANES, Component.CHECKPOINTS}
