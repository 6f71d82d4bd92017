"""What the disks of a scenario say, once all is stopped: the journal, the audit, and a replay."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from localnet.audit import NodeAudit, audit_stores
from localnet.faults.strikes import read_deeds
from localnet.faults.table import journal_path
from localnet.faults.verdict import Seen
from node.exit_codes import ExitCode
from node.network import Network

REPLAY_TIMEOUT_S: Final = 600
HASH_SEED: Final = "4242"
"""Of the replay; the nodes have random ones."""


class _ToldError(msgspec.Struct):
    code: str
    message: str


class _Told(msgspec.Struct):
    """What `--json` prints of an error, in part."""

    error: _ToldError


def read_disks(
    network: Network, seen: Seen, replay: Callable[[Path], tuple[int, str]] | None = None
) -> Seen:
    """Add what the stopped nodes' disks say. Some node is honest: scenarios without are refused.

    `replay` repeats the chain of a home and returns the exit code and what was said, which only
    tests do in another way than `replay_home`.
    """
    report = audit_stores(network)
    liars = set(seen.liars)
    double_signs = tuple(str(each) for each in report.contradictions if each.node not in liars)
    honest = next(node.name for node in network.nodes if node.name not in liars)
    code, said = (replay or replay_home)(network.path / honest)
    audits = [each for each in report.nodes if each.name not in liars]
    deeds = read_deeds(journal_path(network.path))
    seen = msgspec.structs.replace(
        seen,
        double_signs=(*double_signs, *_find_forgotten(audits)),
        signatures_compared=sum(each.signatures_checked for each in audits),
        not_audited=tuple(
            each.name for each in audits if each.signatures_found and not each.signatures_checked
        ),
        strikes=deeds.strikes,
        lies=deeds.lies,
    )
    if code == ExitCode.NONDETERMINISM:
        return msgspec.structs.replace(seen, replay_problem=said)
    if code == ExitCode.TIMED_OUT:
        return msgspec.structs.replace(seen, not_replayed=said)
    if code != ExitCode.OK:
        ends = (
            *seen.unexpected_exits,
            f"the replay of {honest} ended with exit code {code}: {said}",
        )
        return msgspec.structs.replace(seen, unexpected_exits=ends)
    return seen


def _find_forgotten(audits: Sequence[NodeAudit]) -> list[str]:
    """Whoever stands in certificates has noted its votes before it sent them."""
    return [
        f"{each.name} is in {each.certificate_votes_found} certificates and has no record of any"
        for each in audits
        if each.certificate_votes_found and not each.votes_recorded
    ]


def replay_home(home: Path) -> tuple[int, str]:
    """Repeat the chain of a home; returns the exit code and what was said."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "node.cli.main", "replay", str(home), "--check-roots", "--json"],
            capture_output=True,
            text=True,
            timeout=REPLAY_TIMEOUT_S,
            env={**os.environ, "PYTHONHASHSEED": HASH_SEED},
            check=False,
        )
    except subprocess.TimeoutExpired:
        # All else that was found is to stand in the report.
        return ExitCode.TIMED_OUT, f"it had not ended after {REPLAY_TIMEOUT_S:g} s"
    return done.returncode, _read_error(done.stdout) or (done.stdout + done.stderr).strip()


def _read_error(said: str) -> str | None:
    """The words of an error that was told as JSON, for people."""
    try:
        error = msgspec.json.decode(said, type=_Told).error
    except msgspec.MsgspecError:
        return None
    return f"{error.message} [{error.code}]"
