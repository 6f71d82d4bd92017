"""A member whose node is honest, and in whose name somebody else says anything besides."""

from typing import ClassVar

from localnet.byzantine.behaviour import Behaviour


class Hostile(Behaviour):
    """Says what an honest node says; the simulator adds messages that were bent."""

    name: ClassVar[str] = "hostile"
