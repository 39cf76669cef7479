"""A wall clock that jumps, for programs."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")
SECONDS = struct.Struct("@l")


class ShiftedClock:
    """Programs that get its ``environment`` see the wall clock as far ahead as ``jump`` said last. Skips the test without a C compiler."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("there is no C compiler here (on Debian and Ubuntu: apt-get install gcc libc6-dev)")
        library, shift = folder / "shifted_clock.so", folder / "shift"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
        shift.write_bytes(SECONDS.pack(0))
        with shift.open("r+b") as file:
            self._shift = mmap.mmap(file.fileno(), SECONDS.size)
        self.environment: Mapping[str, str] = {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(shift)}

    def jump(self, seconds: int) -> None:
        """Be so far ahead of the machine's clock from now on; negative: behind it."""
        self._shift[:] = SECONDS.pack(seconds)
