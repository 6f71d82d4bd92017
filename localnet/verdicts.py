"""What a run came to: one word, one exit code and one order of gravity, for whatever ran it.

A localnet, a scenario on real processes and a simulated committee call the same trouble by the same
name: `rota localnet up --for`, `rota fault run` and `rota sim` all take their verdicts from here.
"""

from collections.abc import Iterable
from enum import StrEnum

from node.exit_codes import ExitCode


class Verdict(StrEnum):
    """The gravest comes first; the value is the word in reports and scenario files."""

    exit_code: ExitCode

    def __new__(cls, word: str, exit_code: ExitCode) -> "Verdict":
        """Attach the exit code to the word."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.exit_code = exit_code
        return member

    SAFETY = "safety", ExitCode.SAFETY
    """Nodes differ about a block or a state root, or a promise was broken."""
    NONDETERMINISM = "nondeterminism", ExitCode.NONDETERMINISM
    """The same run, or the same chain repeated, came to something else."""
    CRASH = "crash", ExitCode.UNEXPECTED
    """A process ended, or a part of the program raised, although nothing was to end it."""
    LIVENESS = "liveness", ExitCode.LIVENESS
    """No progress, or not in time."""
    EXPECTATION = "expectation", ExitCode.EXPECTATION
    """Nothing is wrong, but what was asked for did not come about."""
    PASS = "pass", ExitCode.OK


def find_gravest(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on a whole of several parts; without any it passes."""
    found = set(verdicts)
    return next((each for each in Verdict if each in found), Verdict.PASS)
