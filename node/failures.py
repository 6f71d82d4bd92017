"""Why a node ended, in the operator's words: one error, its advice and its exit code.

Several tasks of a node may fail together, because one cause has many consequences; the gravest
failure is what the operator is told.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from consensus.recovery import RecoveryError
from node.exit_codes import ExitCode, OperatorError
from node.groups import walk_leaves
from node.home import Halted, NodeHome
from node.host import HaltError
from node.storage.errors import DoubleSignError
from node.workers.errors import INVARIANT_CODE, EngineWorkerError, WorkerError

AMNESIA_CODE: Final = "safety.amnesia"
"""The halt by which `consensus.core` refuses to go on with records that are not the newest."""

_log = structlog.get_logger()


class NodeHaltedError(OperatorError):
    """The node stopped because going on could violate safety."""

    code = "node.halted"
    exit_code = ExitCode.HALTED


class RefusedToSignError(OperatorError):
    """The safety records do not allow this node to sign."""

    code = "safety.refused"
    exit_code = ExitCode.REFUSED_TO_SIGN


class WorkerEndedError(OperatorError):
    """A process that the node cannot do without has ended."""

    code = "worker.exited"
    exit_code = ExitCode.UNEXPECTED


@contextmanager
def explaining_end(home: NodeHome) -> Iterator[None]:
    """Turn what ends a node into one `OperatorError`, and mark the home of one that halted.

    What is nobody's known failure is a bug, and leaves as it is.
    """
    try:
        yield
    except Exception as error:
        # Everything is looked at, nothing is kept back: it leaves explained, or as it came.
        leaves = list(walk_leaves(error))
        explained = [(_explain(home, leaf), leaf) for leaf in leaves]
        known = [each for each, _ in explained if each is not None]
        if not known:
            raise
        for each, leaf in explained:
            if each is None:
                _log.error("node_failed_besides", exc_info=leaf)
        raise min(known, key=_gravity) from error


def _gravity(error: OperatorError) -> int:
    order = (ExitCode.HALTED, ExitCode.REFUSED_TO_SIGN, ExitCode.STORAGE)
    return order.index(error.exit_code) if error.exit_code in order else len(order)


def _explain(home: NodeHome, error: BaseException) -> OperatorError | None:
    if isinstance(error, OperatorError):
        return error
    if isinstance(error, HaltError) and error.code == AMNESIA_CODE:
        return RefusedToSignError(
            f"this node signed things that its records have forgotten: {error.detail}",
            advice="restore the newest data/safety.db; an older one must not sign in this epoch",
            code=error.code,
        )
    if isinstance(error, HaltError):
        return _halt(home, error.code, f"the node halted: {error}", error.detail)
    if isinstance(error, DoubleSignError):
        return RefusedToSignError(
            f"the node was about to contradict itself: {error}",
            advice="nothing was signed; report this with the log, it is a bug",
            code=error.code,
        )
    if isinstance(error, RecoveryError):
        return RefusedToSignError(
            f"the durable records do not fit together: {error}",
            advice="restore data/ as a whole from one moment; never only a part of it. If it is "
            "lost, retire these keys; without signing, and with data/ moved away, the node can "
            "follow: rota node start --follow",
            code=error.code,
        )
    if isinstance(error, EngineWorkerError) and error.code == INVARIANT_CODE:
        return _halt(home, error.code, f"the engine's invariants broke: {error}", error.detail)
    if isinstance(error, WorkerError):
        return WorkerEndedError(
            f"a worker process ended: {error}",
            advice="start the node again, it goes on from the newest snapshot; if it ends again, "
            f"look for its last words in {home.log_path} and whether the machine has memory left",
            code=error.code,
        )
    return None


def _halt(home: NodeHome, code: str, message: str, detail: str) -> NodeHaltedError:
    advice = (
        f"do not restart it before you know why; see {home.log_path} and `rota replay {home.path}`"
    )
    try:
        home.write_halted(Halted(code, detail, time.time_ns() // 1_000_000))
    except OSError as error:
        advice += (
            f"; {home.halted_path} could not be written ({error.strerror}), so nothing but you "
            "keeps the node from starting again"
        )
    return NodeHaltedError(message, advice=advice, code=code)
