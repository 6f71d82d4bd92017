"""What the nodes themselves say about their work: counters of their `status` view, over time."""

from typing import Any

from node.client import DoorClient
from node.network import Network

Stages = dict[str, dict[str, float]]
"""By node: every number of its status by its dotted path."""


async def read_stages(network: Network) -> Stages:
    """Ask every node for its status. Raises `DoorError`."""
    stages: Stages = {}
    for node in network.nodes:
        endpoint = node.door_endpoint()
        async with DoorClient.connect(endpoint.host, endpoint.port) as client:
            stages[node.name] = flatten_numbers(await client.query("status"))
    return stages


def flatten_numbers(value: object, prefix: str = "") -> dict[str, float]:
    """All numbers in nested maps, by dotted path."""
    if isinstance(value, dict):
        found: dict[str, float] = {}
        for key, each in value.items():
            found |= flatten_numbers(each, f"{prefix}.{key}" if prefix else str(key))
        return found
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {prefix: value}
    return {}


def subtract_stages(before: Stages, after: Stages) -> dict[str, dict[str, Any]]:
    """What changed, by node and path."""
    return {
        name: {
            path: round(value - before[name][path], 3)
            for path, value in sorted(paths.items())
            if path in before.get(name, {}) and value != before[name][path]
        }
        for name, paths in after.items()
    }
