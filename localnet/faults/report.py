"""What a scenario's run leaves behind: `report.json` for programs, `report.md` for people."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from localnet.faults.market_chart import describe_market
from localnet.faults.memory import MemorySample
from localnet.faults.options_chart import describe_options
from localnet.faults.scenario import Scenario
from localnet.faults.verdict import Finding, Seen
from localnet.faults.words import say_count
from localnet.machine import describe_machine
from localnet.verdicts import Verdict
from node.exit_codes import OperatorError
from node.home import write_atomically

MEBIBYTE: Final = 1 << 20
DETAIL_MAX_CHARS: Final = 300
"""In one cell of the page's table."""
_ANSWERS: Final = {True: "yes", False: "NO", None: "not judged"}


def write_report(
    directory: Path,
    scenario: Scenario,
    seen: Seen,
    samples: list[MemorySample],
    verdict: Verdict,
    findings: list[Finding],
) -> dict[str, Any]:
    """Write both files; returns the content of `report.json`."""
    document: dict[str, Any] = {
        "scenario": scenario.name,
        "shows": scenario.shows,
        "verdict": verdict,
        "expected_verdict": scenario.verdict,
        "as_expected": verdict == scenario.verdict,
        "exit_code": int(verdict.exit_code),
        "ended": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "machine": msgspec.to_builtins(describe_machine()),
        "nodes": scenario.nodes,
        "seed": scenario.seed,
        "run_for_s": scenario.run_for_s,
        "faults": len(scenario.faults),
        "findings": msgspec.to_builtins(findings),
        "seen": {
            **msgspec.to_builtins(seen),
            "memory": [{**each._asdict(), "percent": each.percent} for each in seen.memory],
        },
        "rss_samples": [
            [round(each.at_s, 1), each.node, each.starts, each.size_bytes] for each in samples
        ],
    }
    text = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    write_atomically(directory / "report.json", text, mode=0o644)
    write_atomically(directory / "report.md", render(document).encode(), mode=0o644)
    return document


def write_failure(directory: Path, scenario: Scenario, error: OperatorError) -> None:
    """The report of a run that came to no verdict: why."""
    document = {
        "scenario": scenario.name,
        "shows": scenario.shows,
        "verdict": None,
        "expected_verdict": scenario.verdict,
        "as_expected": False,
        "exit_code": int(error.exit_code),
        "error": {"code": error.code, "message": error.message, "next": error.advice},
    }
    text = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    write_atomically(directory / "report.json", text, mode=0o644)
    page = (
        f"# {scenario.name}: no verdict\n\n{scenario.shows}\n\n"
        f"The run did not come to its end: {error.message} [{error.code}]\n"
        f"Exit code {int(error.exit_code)}. The logs are in logs/, the nodes' homes in net/.\n"
    )
    write_atomically(directory / "report.md", page.encode(), mode=0o644)


def describe_broken(document: dict[str, Any], directory: Path) -> list[str]:
    """What did not hold or could not be judged, a line each, with where there is more."""
    return [
        f"{'FAILED' if each['holds'] is False else 'NOT JUDGED'} {each['name']}: {each['detail']}"
        f"; see {directory / 'report.md'}"
        for each in document["findings"]
        if each["holds"] is not True
    ]


def render(document: dict[str, Any]) -> str:
    """The report as a page."""
    seen = document["seen"]
    orders = seen["orders"]
    lines = [
        f"# {document['scenario']}: {document['verdict']}",
        "",
        document["shows"],
        "",
        f"Expected: {document['expected_verdict']}. Exit code {document['exit_code']}.",
        f"Ended {document['ended']}.",
        "",
        "| invariant or expectation | holds | detail |",
        "|---|---|---|",
    ]
    for finding in document["findings"]:
        detail = finding["detail"].replace("|", "\\|").replace("\n", " ")
        if len(detail) > DETAIL_MAX_CHARS:
            detail = f"{detail[:DETAIL_MAX_CHARS]} … (more in report.json)"
        lines.append(f"| {finding['name']} | {_ANSWERS[finding['holds']]} | {detail} |")
    lines += [
        "",
        f"- {document['nodes']} nodes, {document['run_for_s']:g} s, "
        f"{say_count(document['faults'], 'fault')}, "
        f"liars: {', '.join(seen['liars']) or 'none'}",
        f"- height {seen['committed_height']}, {seen['fills']} fills, longest pause between two "
        f"heights {seen['longest_pause_s']:.1f} s",
        *_describe_heals(seen["heals"]),
        *_describe_views(document["faults"], seen),
        f"- orders followed: {orders['sent']} sent, {orders['acknowledged']} acknowledged, "
        f"{orders['executed']} executed, {orders['refused']} envelopes refused, "
        f"{len(orders['unfinished'])} without result",
        "- convicted: "
        + (", ".join(f"{who} ({what})" for who, what in seen["convictions"]) or "nobody"),
    ]
    if seen.get("market"):
        lines += describe_market(seen["market"])
    if seen.get("options"):
        lines += describe_options(seen["options"])
    if seen["memory"]:
        lines += [
            "",
            "| node | RSS after warm-up, MiB | at the end, MiB | growth |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {each['node']} | {each['before_bytes'] / MEBIBYTE:.1f} "
            f"| {each['after_bytes'] / MEBIBYTE:.1f} | {each['percent']:g} % |"
            for each in seen["memory"]
        ]
    return "\n".join(lines) + "\n"


def _describe_heals(heals: Sequence[Mapping[str, Any]]) -> list[str]:
    """How soon heights came after faults; nothing where nothing healed."""
    if not heals:
        return []
    took = [each["progress_after_s"] for each in heals if each["progress_after_s"]]
    when = f"{min(took):.2f} to {max(took):.2f} s" if took else "nothing that was watched"
    cut = sum(each["is_cut"] for each in heals)
    return [
        f"- {say_count(len(heals), 'heal')}, {cut} cut short by the next fault; "
        f"the next height came after {when}"
    ]


def _describe_views(faults: int, seen: Mapping[str, Any]) -> list[str]:
    """Views without a block and what the faults did. Where nothing is wrong the former, being
    counted to about two, say nothing."""
    if not (faults or seen["liars"]):
        return []
    hits = ", ".join(f"{each['kind']} {each['hits']}" for each in seen["strikes"]) or "none"
    views = say_count(seen["view_changes"], "view")
    return [f"- {views} without a block; hits of the faults: {hits}"]
