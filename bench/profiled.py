"""Runs a console script of ours under cProfile: ``python profiled.py OUTPUT PROGRAM ARGUMENTS…``. The figures are written at its end."""

from __future__ import annotations

import cProfile
import importlib
import sys
from pathlib import Path

MAIN = {"kas": "kas.cli", "agentk": "agentk.cli"}

if __name__ == "__main__":
    output, program = sys.argv[1:3]
    sys.argv = sys.argv[2:]
    main = importlib.import_module(MAIN[Path(program).name]).main
    profile = cProfile.Profile()
    try:
        profile.runcall(main)
    finally:
        profile.dump_stats(output)
