"""The command lines of a localnet's processes."""

import pytest

from localnet.network import create_network
from localnet.plans import PROXY, add_routes, node_plan, proxy_plan, traders_plan
from node.network import Network


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Network:
    return create_network(tmp_path_factory.mktemp("plans") / "net", port_first=18_900)


def test_an_honest_node_is_what_operators_run(network):
    plan = node_plan(network, "node1")
    home = str(network.path / "node1")
    assert (plan.name, plan.module) == ("node1", "node.cli.main")
    assert plan.arguments == ("node", "start", "--home", home, "--set", "log.format=none")


@pytest.mark.parametrize("has_bad_parts", [True, False])
@pytest.mark.parametrize("behaviour", [None, "silent"])
def test_a_node_lies_or_has_bad_parts_or_both(network, behaviour, has_bad_parts):
    plan = node_plan(network, "node1", behaviour=behaviour, has_bad_parts=has_bad_parts)
    assert ("--dir" in plan.arguments) == has_bad_parts
    assert ("silent" in plan.arguments) == (behaviour is not None)
    is_bad = has_bad_parts or behaviour is not None
    assert plan.module == ("localnet.faults.node_main" if is_bad else "node.cli.main")
    assert plan.stderr_path == network.home("node1").log_dir / "stderr.log"


def test_settings_and_routes_follow(network):
    plan = node_plan(network, "node1", has_bad_parts=True, settings=("door.listen=127.0.0.1:1",))
    assert "door.listen=127.0.0.1:1" in plan.arguments
    assert add_routes(plan, {"node2": "twin"}).arguments[-2:] == ("--route", "node2=twin")


def test_the_proxy_is_told_of_further_nodes(network):
    plan = proxy_plan(network, {"twin": "127.0.0.1:7"})
    assert (plan.name, plan.arguments[-2:]) == (PROXY, ("--target", "twin=127.0.0.1:7"))


def test_a_tape_waits_for_its_signal(network, tmp_path):
    assert "--await-start" not in traders_plan(network).arguments
    plan = traders_plan(network, tape=tmp_path / "tape.csv", speed="max")
    assert plan.arguments[-5:] == (
        *("--tape", str(tmp_path / "tape.csv"), "--await-start"),
        *("--speed", "max"),
    )
