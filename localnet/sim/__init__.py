"""Deterministic worlds for the pure cores: virtual time, network, disks, crashes, worker delays.

Everything that happens follows from one seed. The same core objects run here and in a real node, so
a failing seed is a failing protocol. docs/simulator.md tells how to use it.

- worlds: `network` hosts any machine with `start` and `step`, `links` bends what travels there,
  `disk` is what outlives a crash; `node_world` adds what whole nodes need: batch stores, archives,
  engines; `joining` their snapshots, for whoever joins.
- committees: `keys`, `cluster` (consensus cores alone), `nodes` (whole nodes), `traders` (their
  clients, with `session_keys`), `solo` (one core among scripted peers).
- what is asked of them: `oracles`; `violation` names the rule that broke and its verdict.
- one run: `schedule` (the file), `bounds` (what it may say), `faults` (what breaks), `scenario`
  (its phases), `coverage` (what it went through), `watchdog` (ends it where it hangs).
- many runs: `generator`, `crash_points` and `twins` make schedules (the last with
  `twin_arithmetic` and `twin_plans`), `workers` and `campaign` run them, `parts` and `profiled`
  tell where the time goes; `mutants` see that broken rules are noticed.
- what is left of a failure: `shrink`, `recorder`, `timeline` with `timeline_style`, `bundle`.
- the engine alone: `streams`, random blocks of everything at once.
- commands: `cli`, `twins_cli`, `mutants_cli`, `streams_cli`, with `options`, `report` and
  `interrupts` for what they share.
"""
