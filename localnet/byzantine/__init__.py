"""Members that lie: a class for each behaviour, whose docstring begins with the lie.

A file holds one lie, or several that differ in one step only. A behaviour bends what an honest
`NodeCore` sends and hears; the node itself has no switch for it. The same class runs in the
simulator and, through `rota byz set` and `rota byz run`, as a process. It holds its own member's
secrets and nobody else's: what it cannot sign, it cannot forge.

| module | what |
|---|---|
| `behaviour` | the base class, its tools, and the core that lies |
| `leading`, `notebook`, `forging` | what several behaviours share |
| `registry` | all behaviours by name |
| the others | the behaviours |
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
