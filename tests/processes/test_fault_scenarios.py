"""Scenarios on real processes, through the command that people use."""

import json
import os
import subprocess
import sys
from pathlib import Path

TIMEOUT_S = 400

# Everything that can be done to a node or a link in a few seconds, each with its own end.
MIXED = """
# A node is cut off, then messages are lost while another one dies in the middle of a write.
run_for = "10s"
traders = false
heal_within = "120s"
converge_within = "120s"

[[fault]]
at = "1s"
for = "3s"
kind = "partition"
nodes = ["node3"]

[[fault]]
at = "5s"
for = "2s"
kind = "torn-write"
nodes = ["node1"]

[[fault]]
at = "5s"
for = "4s"
kind = "loss"
links = ["*>*"]
permille = 50
"""


def run_scenario(scenario: str, report: Path) -> tuple[int, dict]:
    port_base = 20_000 + (os.getpid() * 97) % 9_000
    done = subprocess.run(
        [
            *(sys.executable, "-m", "node.cli.main", "fault", "run", scenario, "--json"),
            *("--report", str(report), "--port-base", str(port_base)),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (report / "report.json").exists(), done.stderr + done.stdout
    return done.returncode, json.loads(done.stdout)


def test_nodes_that_are_cut_off_and_torn_from_a_write_come_back_to_the_same_root(tmp_path):
    path = tmp_path / "mixed.toml"
    path.write_text(MIXED)
    report = tmp_path / "report"
    code, document = run_scenario(str(path), report)
    assert (code, document["verdict"]) == (0, "pass"), document["findings"]
    assert document["seen"]["orders"]["executed"] > 0
    assert all(each["hits"] for each in document["seen"]["strikes"])
    events = [json.loads(line) for line in (report / "faults.jsonl").read_text().splitlines()]
    assert {"torn", "began", "expired", "ended"} <= {each["event"] for each in events}
    assert (report / "report.md").read_text().startswith("# mixed: pass")
    assert (report / "logs" / "proxy.log").exists()
    assert not (report / "net").exists()


def test_one_liar_too_many_is_reported_as_the_loss_of_liveness_that_it_is(tmp_path):
    code, document = run_scenario("too_many_silent", tmp_path / "report")
    assert (code, document["verdict"]) == (21, "liveness"), document["findings"]
    assert document["as_expected"]
    broken = {each["name"] for each in document["findings"] if each["holds"] is False}
    assert broken == {"convergence"}
    lies = dict(document["seen"]["lies"])
    assert set(lies) == {"node2", "node3"}
    assert all(lies.values()), "each has held back messages"
    assert (tmp_path / "report" / "net").exists(), "what did not pass stays to be looked at"
