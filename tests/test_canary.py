"""The test set-up itself: a failing async property test must fail.

pytest-trio wraps async tests and hypothesis wraps their arguments; a wrong combination of versions
or settings can turn such a test into a coroutine that nobody awaits, which then always passes.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

FAILING = """
import trio
from hypothesis import given, strategies


@given(strategies.integers())
async def test_no_integer_is_above_ten(number):
    await trio.lowlevel.checkpoint()
    assert number <= 10


async def test_one_is_two():
    await trio.lowlevel.checkpoint()
    assert 1 == 2
"""


def test_failing_async_property_tests_are_reported_as_failed(tmp_path: Path) -> None:
    (tmp_path / "test_failing.py").write_text(FAILING)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c"]
    command += [str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "2 failed" in result.stdout
    assert "number=11" in result.stdout
