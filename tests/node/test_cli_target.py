"""Which node a command ends up with when some are silent."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from node.cli import target
from node.cli.main import run
from node.cli.target import DoorFailure, run_at
from node.client_stream import DoorError
from node.config import Endpoint
from node.exit_codes import ExitCode

SILENT, ANSWERS = Endpoint("127.0.0.1", 1), Endpoint("127.0.0.1", 2)

Work = Callable[[Any], Awaitable[Any]]


def stand_in(code: str, *, begins: bool) -> Callable[[str, int, Work], Any]:
    """A door that fails with `code` on the silent port, before the work or in the middle of it."""

    def run_with_door(host: str, port: int, work: Work) -> Any:
        if port == SILENT.port:
            if begins:
                trio.run(work, port)
            raise DoorError(code, "no answer")
        return trio.run(work, port)

    return run_with_door


@pytest.mark.parametrize("code", ["door.unreachable", "door.timeout", "door.closed", "door.full"])
@pytest.mark.parametrize(("begins", "may_repeat"), [(False, False), (False, True), (True, True)])
def test_a_silent_node_is_passed_over(
    code: str, begins: bool, may_repeat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "run_with_door", stand_in(code, begins=begins))

    async def work(client: Any) -> Any:
        return client

    assert run_at([SILENT, ANSWERS], work, may_repeat=may_repeat) == ANSWERS.port


@pytest.mark.parametrize(
    ("words", "code", "advice"),
    [
        (["account", "show", "ab" * 32], "account.unknown", "first deposit"),
        (["order", "status", "ab" * 32], "envelope.unknown", "another --node"),
        (["inspect", "block", "9"], "block.unknown", "localnet status"),
        (["inspect", "qc", "9"], "block.unknown", "localnet status"),
        (["inspect", "state", "9"], "checkpoint.unknown", "multiple of 16"),
        (["market", "list"], "query.malformed", "what the node names"),
        (["market", "list"], "door.full", "another --node"),
        (["market", "list"], "door.of_a_newer_node", "use the node's version"),
    ],
)
def test_what_a_node_does_not_know_is_refused_with_what_to_do(
    words: list[str],
    code: str,
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run_with_door(host: str, port: int, work: Work) -> Any:
        raise DoorError(code, "nothing of that name")

    monkeypatch.setattr(target, "run_with_door", run_with_door)
    assert run([*words, "--node", "127.0.0.1:1", "--json"]) == ExitCode.REJECTED
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["message"]) == (code, "nothing of that name")
    assert advice in error["next"]


def test_what_a_silent_node_may_have_done_is_not_done_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(target, "run_with_door", stand_in("door.timeout", begins=True))
    ports = []

    async def work(client: Any) -> None:
        ports.append(client)

    with pytest.raises(DoorFailure) as caught:
        run_at([SILENT, ANSWERS], work, may_repeat=False)
    assert caught.value.exit_code == ExitCode.TIMED_OUT
    assert ports == [SILENT.port]
