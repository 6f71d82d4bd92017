"""Why a benchmark has no result."""

from node.exit_codes import ExitCode, OperatorError


class BenchError(OperatorError):
    """The benchmark could not be run, or its numbers would mean nothing."""

    code = "bench.failed"
    exit_code = ExitCode.UNEXPECTED


class IdleChainError(BenchError):
    """Nothing moved while it was measured: there is no rate to report."""

    code = "bench.idle"
    exit_code = ExitCode.LIVENESS
