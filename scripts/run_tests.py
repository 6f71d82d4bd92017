"""Run the tests on two cores at once, beside compiling: `make test`.

Tests of whole processes mostly wait, so they run beside all others, in a pytest of their own; what
it says is shown at the end. Tests that compare both builds wait for the compiler by themselves.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PROCESSES: Final = "tests/processes"
LOG: Final = ROOT / "build" / "process_tests.log"


def main() -> int:
    """Return 0 if all tests passed and the compiler, where there is one, did its work."""
    python = sys.executable
    pytest = (python, "-m", "pytest")
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("wb") as log:
        started = [
            subprocess.Popen((python, "scripts/compile.py"), cwd=ROOT),
            subprocess.Popen(
                (*pytest, "-p", "no:cacheprovider", PROCESSES),
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            ),
        ]
        try:
            codes = [subprocess.call((*pytest, f"--ignore={PROCESSES}"), cwd=ROOT)]
            codes += [process.wait() for process in started]
        except KeyboardInterrupt:
            # A terminal interrupts all of them: what they started, they end.
            for process in started:
                process.wait()
            return 130
    output = LOG.read_text(errors="replace")
    sys.stdout.write(f"\n{PROCESSES}, which ran beside these:\n{output}")
    return max(codes, key=abs)


if __name__ == "__main__":
    sys.exit(main())
