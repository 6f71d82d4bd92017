"""What `rota localnet up` shows to people: the start page, then one line that moves."""

import time
from pathlib import Path
from typing import Final

import trio
from rich.live import Live
from rich.text import Text

from localnet.up import Cluster, View
from node.cli.output import Output, table
from node.network import Network

REFRESH_S: Final = 0.25
LOG_LINE_INTERVAL_S: Final = 10.0
"""Off a terminal the line is printed anew this often."""
LINE_WIDTH: Final = 79
"""Columns of the moving line, below those of the narrowest terminal in use."""
SEPARATOR: Final = "  "


class Screen:
    """Shows one run; use as a context manager. Silent when the output is JSON."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._live: Live | None = None
        self._next_at = 0.0

    def view(self) -> View:
        """The callbacks for the run."""
        return View(note=self._output.note, ready=self._show_ready, tick=self._tick)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show_ready(self, network: Network, seconds: float) -> None:
        if not self._output.is_json:
            show_network(self._output, network)
            self._output.note(f"ready in {seconds:.1f} s")
            self._output.note(
                f"stop: Ctrl-C   next: {rota_command(network)}order place BTC-PERP buy 0.1 "
                "--price 60000 --account alice"
            )
        if self._output.err.is_terminal and not self._output.is_json:
            self._live = Live(console=self._output.err, auto_refresh=False, transient=True)
            self._live.start()

    def _tick(self, cluster: Cluster) -> None:
        now = trio.current_time()
        if now < self._next_at or self._output.is_json:
            return
        if self._live is not None:
            self._next_at = now + REFRESH_S
            line = Text(describe_moment(cluster), no_wrap=True, overflow="ellipsis")
            self._live.update(line, refresh=True)
        else:
            self._next_at = now + LOG_LINE_INTERVAL_S
            self._output.note(describe_moment(cluster))


def describe_moment(cluster: Cluster, width: int = LINE_WIDTH) -> str:
    """The moving line: what matters most first, and as much of the rest as fits.

    Only a broken promise may be longer than `width`.
    """
    monitor = cluster.monitor
    newest = monitor.newest()
    elapsed = int(trio.current_time() - cluster.measured_from)
    clock = time.strftime("%H:%M:%S", time.gmtime(elapsed))
    if monitor.agreement.contradictions:
        return f"{clock}  SAFETY VIOLATED: {monitor.agreement.contradictions[0]}"
    blocks, fills = monitor.rates()
    parts = [clock, f"{len(monitor.up())}/{len(cluster.network.nodes)} up"]
    if newest is not None:
        parts.append(f"height {newest.committed_height}")
    if cluster.options.traders:
        parts += [f"{fills:.0f} fills/s", f"{cluster.demo.orders_per_s} orders/s"]
    if tape := cluster.demo.last.tape:
        parts.append(f"tape {tape.played}/{tape.trades}")
    latency_ms = cluster.demo.recent_commit_latency.median_ms()
    if latency_ms is not None:
        parts.append(f"commit {latency_ms:.0f} ms")
    parts.append(f"{blocks:.1f} blocks/s")
    if newest is not None and newest.leader:
        parts.append(f"leader {newest.leader}")
    line = parts[0]
    for part in parts[1:]:
        if len(line) + len(SEPARATOR) + len(part) > width:
            break
        line += SEPARATOR + part
    return line


def show_network(output: Output, network: Network) -> None:
    """The start page: chain, nodes and how to follow them, accounts."""
    chain = network.chain_id.hex()[:8]
    output.note(
        f"genesis  chain {chain}, {len(network.nodes)} sequencers, seed {network.manifest.seed}, "
        f"{short_path(network.genesis_path)}"
    )
    rows = [
        (
            node.name,
            node.power,
            node.door,
            node.peer,
            f"tail -f {short_path(network.home(node.name).log_path)}",
        )
        for node in network.nodes
    ]
    output.note_table(table(["node", "stake>", "order door", "peers", "log"], rows))
    people = [account.name for account in network.accounts if not account.is_trader]
    output.note(f"accounts {', '.join(people)}   keys in {short_path(network.path / 'accounts')}")


def rota_command(network: Network) -> str:
    """What to put before a command's name so that it finds this localnet from here."""
    return "rota " if network.path == Path(".localnet").absolute() else _with_dir(network)


def _with_dir(network: Network) -> str:
    return f"ROTA_LOCALNET={short_path(network.path)} rota "


def short_path(path: Path) -> str:
    """A path as whoever stands here writes it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
