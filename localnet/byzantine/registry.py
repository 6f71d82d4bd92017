"""All behaviours by name: every module of this package that defines one is found here."""

import importlib
import pkgutil
from functools import lru_cache

import localnet.byzantine as package
from localnet.byzantine.behaviour import Behaviour


class UnknownBehaviourError(ValueError):
    """No behaviour has this name; the message lists those that exist."""


@lru_cache(maxsize=1)
def behaviours() -> dict[str, type[Behaviour]]:
    """Every behaviour by name, by rising name."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    found = {kind.name: kind for kind in Behaviour.__subclasses__() if hasattr(kind, "name")}
    return dict(sorted(found.items()))


def find_behaviour(name: str) -> type[Behaviour]:
    """The behaviour of a name. Raises `UnknownBehaviourError`."""
    known = behaviours()
    if name not in known:
        raise UnknownBehaviourError(f"no behaviour {name!r}; there are: {', '.join(known)}")
    return known[name]
