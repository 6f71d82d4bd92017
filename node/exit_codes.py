"""What a `rota` process says when it ends: exit codes, and the errors that carry them.

The numbers are an interface: scripts and service managers branch on them. The list is append-only,
a number never changes its meaning and is never reused.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit code of every `rota` command."""

    meaning: str
    """One line for `rota exit-codes`."""

    def __new__(cls, value: int, meaning: str = "") -> "ExitCode":
        """Attach the meaning to the number."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "done; for a node or a localnet also: stopped in good order by SIGINT or SIGTERM"
    UNEXPECTED = 1, "an error nobody foresaw: a bug"
    USAGE = 2, "the command line is wrong"
    CONFIG = 3, "node.toml, genesis.json or the home is wrong, or they contradict each other"
    UNREACHABLE = 4, "no node or supervisor answers there"
    REJECTED = 5, "the protocol refused it; the code says why"
    TIMED_OUT = 6, "nothing went wrong so far, but it took too long"
    KEY = 7, "a key or a password is missing or wrong"
    SAFETY = 20, "safety violated: nodes disagree about a block or a state root"
    LIVENESS = 21, "liveness violated: no progress"
    NONDETERMINISM = 22, "the same inputs gave two different results"
    EXPECTATION = 23, "an expectation of the scenario was not met"
    NOT_READY = 30, "the localnet was not ready in time"
    HALTED = 70, "the node halted because an invariant broke: do not restart it before you know why"
    REFUSED_TO_SIGN = 71, "the safety records are locked by another process, missing or too old"
    STORAGE = 72, "the disk is full, or stored data is corrupt"
    PORT_IN_USE = 73, "a port that is to be listened on is taken"
    INTERRUPTED = 130, "SIGINT before the command had done its work"
    TERMINATED = 143, "SIGTERM before the command had done its work"


class OperatorError(Exception):
    """Something that whoever runs the command can mend: printed without a traceback.

    Subclasses fix `code` and `exit_code` for one kind of trouble.
    """

    code: str = "command.failed"
    """Stable name, for scripts."""

    exit_code: ExitCode = ExitCode.UNEXPECTED

    def __init__(
        self,
        message: str,
        *,
        advice: str,
        code: str | None = None,
        exit_code: ExitCode | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        """What is wrong, with the file, key or address concerned."""
        self.advice = advice
        """What to do about it."""
        if code is not None:
            self.code = code
        if exit_code is not None:
            self.exit_code = exit_code


class PortInUseError(OperatorError):
    """Something else listens where a node is to listen."""

    code = "port.in_use"
    exit_code = ExitCode.PORT_IN_USE
