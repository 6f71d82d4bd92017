"""Members that lie: a class for each behaviour, whose docstring begins with the lie.

A file holds one lie, or several that differ in one step only. A behaviour bends what an honest
`NodeCore` sends and hears; the node itself has no switch for it. The same class runs in the
simulator and, through `rota byz set` and `rota byz run`, as a process. It holds its own member's
secrets and nobody else's: what it cannot sign, it cannot forge.

| module | what |
|---|---|
| `behaviour` | the base class and its tools |
| `liar` | the core that lies |
| `guard` | tells what is wrong with a behaviour of somebody's own |
| `leading`, `notebook`, `forging` | what several behaviours share |
| `bad_dealings` | lies of a key ceremony |
| `registry` | all behaviours by name |
| the others | the behaviours |
"""

from localnet.byzantine.behaviour import Behaviour, Need, Tools
from localnet.byzantine.guard import BehaviourFailedError
from localnet.byzantine.liar import LyingNode, make_liar
from localnet.byzantine.registry import UnknownBehaviourError, behaviours, find_behaviour

__all__ = [
    "Behaviour",
    "BehaviourFailedError",
    "LyingNode",
    "Need",
    "Tools",
    "UnknownBehaviourError",
    "behaviours",
    "find_behaviour",
    "make_liar",
]
