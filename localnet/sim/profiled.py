"""Where the time of one schedule's run goes, measured on the sources.

A profiler sees nothing inside compiled modules. Where these run, a process of its own runs the
sources for the few runs that are profiled: the shares are those of the sources.
"""

import json
import os
import subprocess
import sys

import rota_build
from localnet.sim.parts import measure_parts
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Schedule, decode_schedule, encode_schedule


def profile_schedule(schedule: Schedule) -> dict[str, float]:
    """Seconds by part."""
    if rota_build.find_reason_pure():
        return dict(measure_parts(lambda: run_schedule(schedule)))
    done = subprocess.run(
        [sys.executable, "-m", "localnet.sim.profiled"],
        input=encode_schedule(schedule),
        stdout=subprocess.PIPE,
        env=os.environ | {rota_build.PURE_VARIABLE: "1"},
        check=True,
    )
    parts: dict[str, float] = json.loads(done.stdout)
    return parts


if __name__ == "__main__":
    task = decode_schedule(sys.stdin.buffer.read())
    json.dump(profile_schedule(task), sys.stdout)
