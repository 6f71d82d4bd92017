"""A lying member as a process: the core that a node runs, given the keys of its home."""

from crypto.bls import BLS
from crypto.ed25519 import ED25519
from localnet.byzantine.behaviour import Behaviour, make_liar
from node.cli.node import ChooseCore
from node.core import CoreFactory
from node.keystores import NodeKeys


def choose_liar(behaviour: type[Behaviour], seed: int) -> ChooseCore:
    """What `start_node` takes to run a node that lies as `behaviour` does."""

    def choose(keys: NodeKeys) -> CoreFactory:
        return make_liar(
            behaviour,
            scheme=BLS,
            identity_scheme=ED25519,
            secret=keys.consensus,
            identity_secret=keys.identity,
            seed=seed,
        )

    return choose
