"""A member that lies as a real process: the others commit on, and convict it."""

import json
import os
import signal
import subprocess
import sys


def test_a_real_process_equivocates_and_the_others_commit_on_and_convict_it(
    make_localnet, wait_until, patience_s
) -> None:
    localnet = make_localnet("--no-traders")
    localnet.localnet("kill", "node1")
    home = localnet.path / "node1"
    liar = subprocess.Popen(
        [
            *(sys.executable, "-m", "node.cli.main", "byz", "run", str(home)),
            *("--behaviour", "equivocating_leader", "--set", "log.format=none"),
        ],
        env=dict(os.environ),
    )
    try:

        def is_convicted_by_all_others() -> bool:
            assert liar.poll() is None, "the liar goes on"
            return all(
                convictions(localnet, name) == {("node1", "DoubleProposal")}
                for name in ("node0", "node2", "node3")
            )

        wait_until(is_convicted_by_all_others, "a conviction on every honest node")
        localnet.wait_for_blocks(5, "three and a liar at work")
    finally:
        liar.send_signal(signal.SIGTERM)
        assert liar.wait(patience_s) == 0


def convictions(localnet, name: str) -> set[tuple[str, str]]:
    """(member, offence) of everybody who stands convicted on a node."""
    done = localnet.rota("node", "status", "--home", str(localnet.path / name), "--json")
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)["convictions"]
    return {(each["member"], each["offence"]) for each in listed}
