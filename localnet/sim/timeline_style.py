"""How a timeline looks, and what its signs mean."""

from typing import Final

STYLE: Final = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 24px; color: #1c2430; background: #fff; }
h1 { font-size: 20px; margin: 0 0 4px; } p { margin: 4px 0; } code, pre { font: 12px monospace; }
.verdict { padding: 8px 12px; border-left: 4px solid #2b8a3e; background: #ebfbee; margin: 12px 0; }
.verdict.bad { border-color: #c92a2a; background: #fff5f5; }
.legend { columns: 3 280px; font-size: 12px; margin: 8px 0; padding: 0; list-style: none; }
.legend li { break-inside: avoid; margin: 1px 0; display: flex; align-items: center; }
.legend .sign { display: inline-block; min-width: 74px; }
.legend li > .sign { flex: none; margin-right: 6px; }
.scroll { overflow: auto; max-height: 88vh; border: 1px solid #d0d7de; margin: 12px 0; }
table { border-collapse: separate; border-spacing: 0; }
th, td { border-right: 1px solid #e6e9ed; border-bottom: 1px solid #e6e9ed; padding: 3px 4px;
  min-width: 66px; vertical-align: top; text-align: left; font-weight: normal; }
th.lane { position: sticky; left: 0; background: #f6f8fa; min-width: 104px; z-index: 2;
  font-weight: 600; border-right: 2px solid #d0d7de; }
thead th { background: #f6f8fa; font-size: 12px; position: sticky; top: 0; z-index: 1; }
thead th.lane { z-index: 3; } thead b { font-size: 13px; }
th.end { background: #ffc9c9; } td.end { background: #fff5f5; border-left: 2px solid #c92a2a;
  border-right: 2px solid #c92a2a; }
td.act { background: #ffe3e3; box-shadow: inset 0 0 0 3px #c92a2a; }
td.down, .sign.down {
  background: repeating-linear-gradient(45deg, #f1f3f5 0 6px, #ced4da 6px 8px); }
th.phase, td.phase, .sign.phase { border-left: 3px double #1c2430; }
.small { color: #68737f; font-size: 11px; font-weight: normal; display: block; }
.tag { color: #1c2430; font-size: 11px; font-weight: 600; display: block; }
.why { display: block; max-width: 250px; color: #a51111; font-size: 11px; line-height: 1.3;
  margin-top: 3px; overflow-wrap: anywhere; }
.chip { display: inline-block; border-radius: 3px; padding: 0 4px; margin: 1px 1px 1px 0;
  font: 11px/17px monospace; border: 1px solid #adb5bd; background: #fff; white-space: nowrap; }
.proposal { font-weight: bold; border-width: 2px; } .commit { border-radius: 9px; }
.timeout { background: #ffe8cc; border-color: #e8590c; }
.tc { background: #e8590c; color: #fff; border-color: #e8590c; } .qc { color: #868e96; }
.crash, .halt { background: #c92a2a; color: #fff; border-color: #c92a2a; }
.start { background: #2b8a3e; color: #fff; border-color: #2b8a3e; }
.refused { background: #f3d9fa; border-color: #9c36b5; }
.chip.failed { outline: 3px solid #c92a2a; outline-offset: 1px; margin: 4px; }
.bar { border-radius: 3px; padding: 0 5px; font: 11px/16px monospace; white-space: nowrap;
  overflow: hidden; text-overflow: ellipsis; }
.bar.letter { overflow: visible; }
.fault { background: #d0ebff; border: 1px solid #1c7ed6; }
.never { background: #fff; border: 1px dashed #868e96; color: #68737f; }
.letter { background: #e5dbff; border: 1px solid #7048e8; }
td.bars { padding: 1px 0; border-right: 0; max-width: 0; }
"""

LEGEND: Final = (
    (
        '<span class="chip proposal">P&larr;5</span>',
        "proposes a block that carries the QC of view 5",
    ),
    ('<span class="chip">V</span>', "votes for a block"),
    (
        '<span class="chip">Va</span> <span class="chip">Vb</span>',
        "of a view with several blocks: for the first, for the second",
    ),
    ('<span class="chip commit">h7</span>', "commits height 7, in the column of the block's view"),
    ('<span class="chip timeout">T</span>', "gives the view up"),
    ('<span class="chip qc">qc</span>', "enters the view by votes"),
    ('<span class="chip tc">tc</span>', "enters the view by timeouts"),
    ('<span class="chip crash">✝</span> <span class="chip start">▶</span>', "is killed; starts"),
    ('<span class="chip halt">HALT</span>', "stops by itself and wants an operator"),
    ('<span class="chip refused">!3</span>', "refuses a message of node3"),
    ('<span class="chip failed">h1</span>', "what the violated rule forbids"),
    (
        '<span class="sign end" style="background:#ffc9c9">&nbsp;</span>',
        "the view of the violation",
    ),
    ('<span class="sign down">&nbsp;</span>', "the host is down"),
    (
        '<span class="sign phase">&nbsp;<b>heal</b></span>',
        "the first view of the next phase: attack, heal, rest",
    ),
    ('<span class="sign bar fault">loss</span>', "a fault, while it acts"),
    ('<span class="sign bar never">crash</span>', "a fault that never struck"),
    (
        '<span class="sign bar letter">0 1 | 2 3</span>',
        "groups that hear nobody else; after a + who hears"
        " and is heard by all; 0&prime; is node0's twin",
    ),
)
"""(sign, meaning). A block has the same colour everywhere."""
