"""The page on behaviours of one's own says what is so: its example is run from its text."""

import re
from pathlib import Path

import pytest

from consensus.effects import Send
from consensus.messages import Vote
from localnet.byzantine import UnknownBehaviourError, find_behaviour
from localnet.sim.oracles.watchers import Watcher
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import load_schedule
from node.cli.main import run

PAGE = Path(__file__).parents[2] / "docs" / "byzantine.md"


def find_block(language: str) -> str:
    """The one block of the page in a language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return block


@pytest.fixture(autouse=True)
def in_a_folder_with_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "grudge.py").write_text(find_block("python"))
    (tmp_path / "grudge.json").write_text(find_block("json"))
    monkeypatch.chdir(tmp_path)


class Votes(Watcher):
    """Blocks that the example voted for."""

    def __init__(self) -> None:
        self.ids: set[bytes] = set()

    def on_effect(self, index: int, effect: object) -> None:
        if index == 2 and isinstance(effect, Send) and isinstance(effect.message, Vote):
            self.ids.add(effect.message.data.block_id)


def test_the_example_lies_and_the_others_agree_and_go_on() -> None:
    votes = Votes()
    outcome = run_schedule(
        load_schedule(Path("grudge.json")), lambda cluster: cluster.world.observers.append(votes)
    )
    assert outcome.violation is None
    assert outcome.committed_height > 20
    assert len(votes.ids) > 30
    assert "convicted.DoubleVote" not in outcome.coverage


def test_the_example_is_as_short_as_promised() -> None:
    assert len(find_block("python").splitlines()) <= 30


def test_a_file_without_a_behaviour_is_refused() -> None:
    Path("empty.py").write_text("Nothing = 1\n")
    for name in ("empty.py:Nothing", "empty.py:Missing", "missing.py:Grudge"):
        with pytest.raises(UnknownBehaviourError):
            find_behaviour(name)


def test_behaviours_are_listed_with_their_lies(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["byz", "list"]) == 0
    assert "Never votes, and does everything else." in capsys.readouterr().out


def test_a_behaviour_that_nobody_knows_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["byz", "run", "nowhere", "--behaviour", "honesty"]) == 3
    assert "byz.unknown_behaviour" in capsys.readouterr().err
