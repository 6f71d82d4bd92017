"""How work in another process can fail."""

from typing import Final

from engine.errors import InvariantViolation

INVARIANT_CODE: Final = InvariantViolation.code
"""The code of an `EngineWorkerError` after which the node must halt."""


class WorkerError(Exception):
    """A worker process is gone, or did what it never should: the node cannot go on without it.

    | code | meaning |
    |---|---|
    | `worker.exited` | it ended without being told to |
    | `worker.closed` | it was asked for something after its context had ended |
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class EngineWorkerError(WorkerError):
    """The engine worker is gone; the same codes, and these.

    | code | meaning |
    |---|---|
    | `engine.invariant` | the engine's own checks failed: halt, never retry |
    | `genesis.invalid` | the engine cannot start from this genesis |
    """


class WorkerQueryError(Exception):
    """The engine worker cannot answer a query: the asker's fault, or too many ask at once.

    | code | meaning |
    |---|---|
    | `query.unknown` | there is no such view |
    | `query.malformed` | the arguments are not those of the view |
    | `query.overloaded` | too many queries wait already |
    | `query.failed` | the view broke: a bug of ours, which its log shows |
    | `market.unknown`, `account.unknown`, `order.unknown` | nothing of that name |
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
