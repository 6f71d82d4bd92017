"""Members that lie: one small file for each behaviour, whose first line states the lie.

A behaviour bends what an honest `NodeCore` sends and hears; the node itself has no switch for it.
The same class runs in the simulator and, through `rota byz run`, as a process of a localnet. It
holds its own member's secrets and nobody else's: what it cannot sign, it cannot forge.
"""

from localnet.byzantine.behaviour import Behaviour, LyingNode, Tools, make_liar
from localnet.byzantine.registry import UnknownBehaviourError, behaviours, find_behaviour

__all__ = [
    "Behaviour",
    "LyingNode",
    "Tools",
    "UnknownBehaviourError",
    "behaviours",
    "find_behaviour",
    "make_liar",
]
