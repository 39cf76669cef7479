"""`python -m bench`: see --help."""

from __future__ import annotations

import argparse
import pstats
import sys
import time
from pathlib import Path

from bench import load, machine, report
from bench.deaf import one_deaf_watch
from bench.deciding import deciding
from bench.measure import FRESH, QUICK, Effort, Figures
from bench.measure import MEASUREMENTS as OF_REQUESTS
from bench.nginx import DOWNLOAD, LIST, POD, UPLOAD
from bench.parts import Parts, missing, started

PROFILED_S = 10
MEASUREMENTS = {**OF_REQUESTS, "deaf": one_deaf_watch, "deciding": deciding}


def main() -> int:
    """0: measured; 1: something failed; a machine without the tools is a reason, not a failure."""
    options = _options()
    reason = missing()
    if reason:
        print(f"bench: skipped: {reason}")
        return 0
    if options.profile:
        _profile(options.profile, options.work, options.sort, options.lines)
        return 0
    effort = QUICK if options.quick else Effort()
    figures, skipped = _measure(options.only, effort)
    outcome = report.Outcome(figures, machine.description(), effort, skipped)
    report.write_json(outcome)
    print("\n".join(report.goals_table(figures)))
    print(f"\nwritten: {report.JSON_FILE}")
    if options.quick or options.only != list(MEASUREMENTS):
        print("docs/performance.md is left as it is: it is written by a whole run")
    elif not skipped:
        report.write_document(outcome)
        print(f"written: {report.DOCUMENT}")
    return 1 if skipped else 0


def _measure(names: list[str], effort: Effort) -> tuple[Figures, dict[str, str]]:
    figures: Figures = {}
    skipped: dict[str, str] = {}
    used = [name for name in names if name not in FRESH]
    for together in (used, *([name] for name in names if name in FRESH)):
        if together:
            with started() as parts:
                for name in together:
                    _measure_one(name, parts, effort, figures, skipped)
    return figures, skipped


def _measure_one(name: str, parts: Parts, effort: Effort, figures: Figures, skipped: dict[str, str]) -> None:
    begun = time.perf_counter()
    try:
        measured = MEASUREMENTS[name](parts, effort)
    except (RuntimeError, OSError, ExceptionGroup) as error:
        skipped[name] = repr(error)
        print(f"{name}: failed: {error!r}\n{_said_lately(parts)}", file=sys.stderr)
        return
    figures |= measured
    print(f"{name} ({time.perf_counter() - begun:.0f} s)", flush=True)
    for figure, value in measured.items():
        print(f"  {figure:32} {value:12,.3f}", flush=True)


def _said_lately(parts: Parts) -> str:
    return "\n".join(process.said()[-1500:] for process in (parts.kas, *parts.product.agentks))


def _profile(program: str, work: str, sort: str, lines: int) -> None:
    """Load on one kind of work with kas or agentk under cProfile; the dearest functions."""
    kept = Path("build") / f"{program}-{work}.pstats"
    kept.parent.mkdir(exist_ok=True)
    with started(program) as parts:
        target = parts.ours
        deadline = time.monotonic() + PROFILED_S
        while time.monotonic() < deadline:
            if work in ("get", "list"):
                path, connections = (POD, 32) if work == "get" else (LIST, 8)
                print(load.wrk(target, path, connections, PROFILED_S))
            elif work == "download":
                print(f"{load.download(target, DOWNLOAD):.0f} MB/s")
            else:
                print(f"{load.upload(target, UPLOAD, parts.bulk_file):.0f} MB/s")
        parts.product.close()
        (found,) = parts.product.folder.glob(f"{program}*.pstats")
        found.replace(kept)
    statistics = pstats.Stats(str(kept))
    statistics.sort_stats(sort).print_stats(lines)
    print(f"written: {kept}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, no medians: to see that it works")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=list(MEASUREMENTS), help=f"of {','.join(MEASUREMENTS)}"
    )
    parser.add_argument("--profile", choices=("kas", "agentk"), help="measure nothing: run one program under cProfile")
    parser.add_argument("--work", choices=("get", "list", "download", "upload"), default="get", help="to profile")
    parser.add_argument("--sort", default="tottime", help="of the profile: tottime, cumtime, ncalls")
    parser.add_argument("--lines", type=int, default=60, help="of the profile")
    options = parser.parse_args()
    unknown = [name for name in options.only if name not in MEASUREMENTS]
    if unknown:
        parser.error(f"--only: {','.join(unknown)}: use some of {','.join(MEASUREMENTS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
