"""What `rota localnet up` shows to people: the start page, then one line that moves."""

import time
from typing import Final, NamedTuple

import trio
from rich.live import Live
from rich.text import Text

from localnet.cluster import Cluster, View
from node.cli.hints import rota_command, short_path
from node.cli.output import Output, table
from node.network import Network

REFRESH_S: Final = 0.25
LOG_LINE_INTERVAL_S: Final = 10.0
"""Off a terminal the line is printed anew this often."""
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
                f"stop: Ctrl-C   next: {rota_command(network.path)}order place BTC-PERP buy 0.1 "
                "--price 60000 --account alice"
            )
        if self._output.err.is_terminal and not self._output.is_json:
            self._live = Live(console=self._output.err, auto_refresh=False, transient=True)
            self._live.start()

    def _tick(self, cluster: Cluster) -> None:
        now = trio.current_time()
        if now < self._next_at or self._output.is_json:
            return
        # The width is asked anew each time: people resize their windows.
        line = describe_moment(cluster, self._output.err.width)
        if self._live is not None:
            self._next_at = now + REFRESH_S
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        else:
            self._next_at = now + LOG_LINE_INTERVAL_S
            self._output.note(line)


class _Part(NamedTuple):
    """One thing that the moving line says, in full and in as few columns as it can be read in."""

    full: str
    short: str


def describe_moment(cluster: Cluster, width: int) -> str:
    """The moving line for a terminal of so many columns.

    Who is up, height, view, leader, latency and rates always stand in it, in short words where the
    terminal is narrow (80 columns are enough); the rest as far as it fits. Only a broken promise
    may be longer than that.
    """
    monitor = cluster.monitor
    elapsed = int(trio.current_time() - cluster.measured_from)
    clock = time.strftime("%H:%M:%S", time.gmtime(elapsed))
    if monitor.agreement.contradictions:
        return f"{clock}  SAFETY VIOLATED: {monitor.agreement.contradictions[0]}"
    blocks, fills = monitor.rates()
    extras = [f"{blocks:.1f} blocks/s"]
    if tape := cluster.demo.last.tape:
        extras.insert(0, f"tape {tape.played}/{tape.trades}")
    # The cursor of some terminals takes the last column.
    return _fit(clock, _watched_parts(cluster, fills), extras, width - 1)


def _watched_parts(cluster: Cluster, fills_per_s: float) -> list[_Part]:
    """What people watch for, in the order of the line."""
    monitor, demo = cluster.monitor, cluster.demo
    up = f"{len(monitor.up())}/{len(cluster.network.nodes)} up"
    parts = [_Part(up, up)]
    newest = monitor.newest()
    if newest is not None:
        height, view = newest.committed_height, newest.view
        parts += [_Part(f"height {height}", f"h {height}"), _Part(f"view {view}", f"v {view}")]
        if newest.leader:
            parts.append(_Part(f"leader {newest.leader}", newest.leader))
    latency_ms = demo.recent_commit_latency.median_ms()
    if latency_ms is not None:
        parts.append(_Part(f"commit {latency_ms:.0f} ms", f"{latency_ms:.0f} ms"))
    if cluster.has_traders:
        orders, fills = f"{demo.orders_per_s} ord", f"{fills_per_s:.0f} fills/s"
        parts += [_Part(f"{orders}ers/s", f"{orders}/s"), _Part(fills, fills)]
    return parts


def _fit(clock: str, watched: list[_Part], extras: list[str], width: int) -> str:
    """Join parts, shortening from the right no more of the watched ones than must be."""
    for full_count in range(len(watched), -1, -1):
        words = [part.full for part in watched[:full_count]]
        words += [part.short for part in watched[full_count:]]
        if len(SEPARATOR.join(words)) <= width:
            break
    for extra, position in [(clock, 0), *((each, len(words) + 1) for each in extras)]:
        longer = [*words[:position], extra, *words[position:]]
        if len(SEPARATOR.join(longer)) > width:
            break
        words = longer
    return SEPARATOR.join(words)


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
    output.note_table(table(["node", "stake>", "order door", "peers", "log!"], rows))
    people = [account.name for account in network.accounts if not account.is_trader]
    output.note(f"accounts {', '.join(people)}   keys in {short_path(network.path / 'accounts')}")
