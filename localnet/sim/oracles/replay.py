"""The chain on a disk, repeated with the product's own code.

So it finds what differs between a run and its repetition, and not what is wrong in both.
"""

from consensus.effects import compute_key
from crypto.codec import encode
from crypto.scheme import IdentityScheme, SignatureScheme
from localnet.sim.oracles.order import OneOrder
from localnet.sim.violation import BrokenRuleError
from localnet.verdicts import Verdict
from node.genesis import Genesis
from node.recovery import Archive, Batches
from node.replay import ChainReplay, ReplayError


class ReplayDiffersError(BrokenRuleError):
    """The chain on an honest node's disk, repeated, comes to something else."""

    oracle = "replay"
    verdict = Verdict.NONDETERMINISM


def validate_replay(
    order: OneOrder,
    genesis: Genesis,
    archive: Archive,
    batches: Batches,
    scheme: SignatureScheme,
    identity_scheme: IdentityScheme,
) -> tuple[int, int]:
    """Repeat an archived chain from genesis, and hold every checkpoint that any node made against
    it; returns how many heights there were and how many checkpoints were compared. Raises
    `ReplayDiffersError`."""
    run = ChainReplay(genesis, archive, batches, scheme=scheme, identity_scheme=identity_scheme)
    compared = 0
    while _apply_next(run):
        header = run.newest
        if header is None or header.height != run.counts["heights"]:
            continue
        known = order.headers.get(compute_key(header.height))
        if known is not None:
            if known != encode(header):
                raise ReplayDiffersError(f"other roots at height {header.height}")
            compared += 1
    return run.counts["heights"], compared


def _apply_next(run: ChainReplay) -> bool:
    try:
        return run.apply(run.counts["heights"] + 1)
    except ReplayError as error:
        raise ReplayDiffersError(str(error)) from error
