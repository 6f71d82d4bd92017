"""Room for all connections that a node allows, made before it starts.

A process without file descriptors cannot open its own files either: then clients who merely connect
could end a node. So the limit of the system is raised to what the configuration needs, or the node
does not start.
"""

import resource
from typing import Final

from node.config import ConfigError, NodeConfig
from node.transport.network import HANDSHAKES_MAX

DESCRIPTORS_PER_PEER: Final = 4
"""Both connections to a peer, and the two that replace them."""

DESCRIPTORS_OWN: Final = 256
"""Stores, segments being read, workers' pipes, the log, and connections that are being ended."""


def compute_descriptors_needed(config: NodeConfig) -> int:
    """How many files and connections may be open at once."""
    return (
        config.limits.door_connections_max
        + HANDSHAKES_MAX
        + DESCRIPTORS_PER_PEER * len(config.peers)
        + DESCRIPTORS_OWN
    )


def reserve_descriptors(config: NodeConfig) -> None:
    """Raise this process's limit if it is too low. Raises `ConfigError` if the system forbids."""
    needed = compute_descriptors_needed(config)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"limits.door_connections_max is {config.limits.door_connections_max}, for which the "
            f"node needs {needed} open files; the system allows {hard}",
            advice="lower limits.door_connections_max, or raise the limit: `ulimit -Hn`, or "
            "LimitNOFILE in a systemd unit",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
