"""What ends a node becomes one error with the right exit code, whatever else fails beside it."""

import resource
from pathlib import Path

import pytest

from consensus.recovery import RecoveryError
from node.cli.output import Output
from node.config import CONFIG_VERSION, ConfigError, LimitsSection, NodeConfig, NodeSection
from node.descriptors import compute_descriptors_needed, reserve_descriptors
from node.exit_codes import ExitCode, OperatorError
from node.failures import explaining_end
from node.home import NodeHome
from node.host import HaltError
from node.storage.errors import DoubleSignError, StorageError
from node.workers.errors import EngineWorkerError

HALT = HaltError("state.diverged", "height 9")
FULL = StorageError("storage.full", "chain.db")


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    home = NodeHome(tmp_path)
    home.data_dir.mkdir()
    return home


def end(home: NodeHome, error: Exception) -> OperatorError:
    with pytest.raises(OperatorError) as caught, explaining_end(home):
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (HALT, ExitCode.HALTED, "state.diverged"),
        (DoubleSignError("vote", b"1"), ExitCode.REFUSED_TO_SIGN, "safety.double_sign"),
        (RecoveryError("recovery.gap", "no block"), ExitCode.REFUSED_TO_SIGN, "recovery.gap"),
        (FULL, ExitCode.STORAGE, "storage.full"),
        (EngineWorkerError("engine.invariant", "sum"), ExitCode.HALTED, "engine.invariant"),
        (EngineWorkerError("worker.exited", "SIGKILL"), ExitCode.UNEXPECTED, "worker.exited"),
    ],
)
def test_each_failure_has_an_exit_code_and_advice(
    home: NodeHome, error: Exception, exit_code: ExitCode, code: str
) -> None:
    for raised in (error, ExceptionGroup("tasks", [ExceptionGroup("inner", [error])])):
        told = end(home, raised)
        assert (told.exit_code, told.code) == (exit_code, code)
        assert told.advice
    assert (home.read_halted() is not None) == (exit_code is ExitCode.HALTED)


def test_the_gravest_of_several_failures_is_told(home: NodeHome) -> None:
    group = ExceptionGroup("tasks", [FULL, ValueError("bug"), ExceptionGroup("inner", [HALT])])
    assert end(home, group).exit_code is ExitCode.HALTED
    assert end(home, ExceptionGroup("tasks", [ValueError("bug"), FULL])) is FULL


def test_a_bug_alone_leaves_as_it_is(home: NodeHome) -> None:
    with pytest.raises(ValueError, match="bug"), explaining_end(home):
        raise ValueError("bug")


def test_a_halt_is_told_even_if_its_mark_cannot_be_written(home: NodeHome) -> None:
    home.data_dir.rmdir()
    told = end(home, HALT)
    assert told.exit_code is ExitCode.HALTED
    assert "could not be written" in told.advice


def make_config(connections: int) -> NodeConfig:
    return NodeConfig(
        version=CONFIG_VERSION,
        node=NodeSection(name="node0"),
        limits=LimitsSection(door_connections_max=connections),
    )


def test_more_clients_than_the_system_has_descriptors_for_are_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: chosen.append(limits))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 4_096))
    config = make_config(1_000)
    reserve_descriptors(config)
    assert chosen == [(compute_descriptors_needed(config), 4_096)]
    with pytest.raises(ConfigError, match="the system allows 4096"):
        reserve_descriptors(make_config(5_000))
    reserve_descriptors(make_config(10))
    assert len(chosen) == 1


@pytest.mark.parametrize("is_json", [False, True])
def test_an_error_that_cannot_be_printed_still_ends_with_its_exit_code(
    is_json: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output()
    output.is_json = is_json

    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    silenced: list[bool] = []
    monkeypatch.setattr("node.cli.output._silence", lambda *_: silenced.append(True))
    monkeypatch.setattr(output, "_print_error", refuse)
    output.operator_error(FULL)
    assert silenced == [True]
