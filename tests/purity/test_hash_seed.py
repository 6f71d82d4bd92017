"""The same run in two processes with different hash seeds: nothing may hang on a set's order."""

import os
import subprocess
import sys
from pathlib import Path

RUN = """
from localnet.sim.nodes import NodeCluster

cluster = NodeCluster(31)
cluster.start()
cluster.trade(30, 900)
cluster.run(300)
cluster.crash(2)
cluster.run(300)
cluster.start()
cluster.run(300)
cluster.settle()
print(hash("seed"), cluster.world.trace_hash, cluster.world.now_ms)
for index in cluster.members:
    statistics = cluster.core(index).statistics()
    print(statistics.executed_height, statistics.state_root.hex())
"""


def start(hash_seed: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_run_of_whole_nodes_does_not_depend_on_the_hash_seed():
    with start(0) as one, start(777) as other:
        outputs = [process.communicate(timeout=120)[0].split() for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0]
    (one_hash, *one_result), (other_hash, *other_result) = outputs
    assert one_hash != other_hash, "the hash seeds do differ"
    assert one_result == other_result
    assert len(one_result) == 2 + 2 * 4
    heights, roots = one_result[2::2], one_result[3::2]
    assert min(map(int, heights)) > 10
    assert len(set(roots)) == 1
