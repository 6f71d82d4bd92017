"""A node's memory, weighed: every object that its core reaches, whatever its statistics count.

At rest nothing waits, so what a node may still hold is what it keeps of the past: a bounded number
of blocks with their certificates and results, of batches with their summaries, and of envelopes
with their receipts. The bound allows about twice what these take, for what there was in the run,
and no more of each than the product says that it keeps.
"""

import gc
import sys
from collections.abc import Iterable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Final

from consensus.checkpoints import CERTIFIED_HEADERS_MAX, OWN_HEADERS_MAX
from consensus.effects import Store
from localnet.sim.nodes import NodeCluster
from localnet.sim.violation import BrokenRuleError
from localnet.verdicts import Verdict

OBJECTS_MAX: Final = 2_000_000
"""A node that reaches more than this is too heavy whatever they weigh."""

EMPTY_BYTES: Final = 160_000
"""All parts of a node without a past."""
MEMBER_BYTES: Final = 6_000
BLOCK_BYTES: Final = 3_600
BATCH_BYTES: Final = 1_600
ENVELOPE_BYTES: Final = 1_200

_OUTSIDE: Final = (type, ModuleType, FunctionType, BuiltinFunctionType)


class TooHeavyError(BrokenRuleError):
    """A node holds more than what it has gone through explains."""

    oracle = "MemoryWeight"
    verdict = Verdict.SAFETY


def weigh(root: object, outside: Iterable[object]) -> int:
    """Bytes of all objects that `root` reaches, without code and what is `outside`."""
    seen = {id(each) for each in outside}
    waiting, weight_bytes = [root], 0
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, _OUTSIDE):
            continue
        seen.add(id(each))
        if len(seen) > OBJECTS_MAX:
            raise TooHeavyError(f"a node reaches more than {OBJECTS_MAX} objects")
        weight_bytes += sys.getsizeof(each)
        waiting += gc.get_referents(each)
    return weight_bytes


def compute_weight_max(cluster: NodeCluster, index: int) -> int:
    """What a node at rest may weigh, by what its disk holds of the run."""
    disk, config = cluster.world.disk(index), cluster.config
    lanes, members = config.lanes, len(cluster.members)
    blocks = len(disk.table(Store.ARCHIVE, "block"))
    batches = len(disk.batches)
    links_max = lanes.links_retained_max + 2 * members * lanes.uncommitted_batches_max
    return (
        EMPTY_BYTES
        + members * MEMBER_BYTES
        + min(blocks, OWN_HEADERS_MAX + CERTIFIED_HEADERS_MAX) * BLOCK_BYTES
        + min(batches, links_max) * BATCH_BYTES
        + min(len(cluster.order.ordered), config.admission.pool_count) * ENVELOPE_BYTES
    )


def validate_weight(cluster: NodeCluster, index: int) -> None:
    """Weigh a node that runs, at rest. Raises `TooHeavyError`."""
    weight_bytes = weigh(cluster.core(index), (cluster.genesis, cluster.config, cluster.keys))
    bound_bytes = compute_weight_max(cluster, index)
    if weight_bytes > bound_bytes:
        raise TooHeavyError(f"node {index} weighs {weight_bytes} bytes, bound {bound_bytes}")
