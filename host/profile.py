"""Fills the look-up table of a device: the profile path, from a request to stored measurements.

``profile`` is the whole way. What lacks a clean entry is asked of the store, so a second call resumes; a batch is
stored in one transaction as soon as it is measured, so an end at any moment loses at most the batch in flight.

``python -m host.profile`` is the command ``chamnet profile``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from host.bench import Bench, open_bench
from host.devices import Unit
from host.learning import learn
from host.passes import measure_pass
from host.setting import Progress, Setting, Summary, Workload
from lut_db.store import LutStore


def profile(store: LutStore, unit: Unit, setting: Setting, workload: Workload, progress: Progress) -> Summary:
    """Measures every operator of the workload that lacks a clean entry, and stores it.

    Raises:
        DeviceUnavailable: the agent does not start, or the engine is not there.
        LutError: the database cannot be written.
    """
    started = time.perf_counter()
    with open_bench(store, unit, setting, progress) as bench:
        summary, wanted, lacked = Summary(bench.target.name, started=started), set[str](), set[str]()
        parts = list(workload.in_dtype(setting.dtype).parts(setting.lowers))
        for number, part in enumerate(parts, 1):
            told = progress.of_part(number, len(parts))
            settled = store.settled(bench.target, setting.passes)
            with summary.timed("learn"):
                files = learn(bench, part, settled, summary, told)
            skipped = settled | set(store.quarantined(bench.target))
            todo = {key: path for key, path in files.items() if path is not None and key not in skipped}
            wanted, lacked = wanted | files.keys(), lacked | todo.keys()
            _measure(bench, todo, summary, told)
            bench.clear()
        summary.wanted, summary.already = len(wanted), len(wanted - lacked)
        summary.sent_bytes = bench.transport.sent_bytes
        return summary


def _measure(bench: Bench, todo: Mapping[str, str], summary: Summary, progress: Progress) -> None:
    """As many passes as an entry needs, and one more over what they leave open: what differs, what was disturbed."""
    for number in range(1, bench.setting.passes + 1):
        passes = bench.store.clean_passes(bench.target)
        left = {key: path for key, path in todo.items() if key not in summary.quarantined}
        lacking = {key: path for key, path in left.items() if passes.get(key, 0) < number}
        measure_pass(bench, lacking, number, summary, progress)
    apart, passes = bench.store.disagreeing(bench.target), bench.store.clean_passes(bench.target)
    left = {key: path for key, path in todo.items() if key not in summary.quarantined}
    repeat = {key: path for key, path in left.items() if key in apart or passes.get(key, 0) < bench.setting.passes}
    summary.repeated += len(repeat)
    measure_pass(bench, repeat, bench.setting.passes + 1, summary, progress)


if __name__ == "__main__":
    from host.cli import main

    main(["profile", *sys.argv[1:]])
