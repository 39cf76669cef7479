"""The systemd units, by systemd's own checks where it is installed, and the strictest of their settings against real programs."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
MOST_EXPOSED = 15  # of 100; systemd calls up to 20 "safe enough" for a network service
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1


@pytest.fixture
def systemd_analyze() -> str:
    return shutil.which("systemd-analyze") or pytest.skip("there is no systemd-analyze here")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_unit_is_well_formed(unit: Path, tmp_path: Path, systemd_analyze: str) -> None:
    program = f"ExecStart=/opt/{unit.stem}/bin/{unit.stem}"
    text = unit.read_text()
    assert program in text
    copy = tmp_path / unit.name
    copy.write_text(text.replace(program, "ExecStart=/bin/true"))  # not installed here, which verify would say
    done = subprocess.run([systemd_analyze, "verify", copy], capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in done.stderr.splitlines() if unit.name in line]
    assert not said


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_unit_is_hardened(unit: Path, systemd_analyze: str) -> None:
    words: list[str | Path] = ["security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", unit]
    done = subprocess.run([systemd_analyze, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


@pytest.mark.parametrize("program", ["kas.cli", "agentk.app"])
def test_the_programs_load_where_memory_cannot_become_executable(program: str) -> None:
    """MemoryDenyWriteExecute: their compiled libraries must not need what it forbids."""
    if ctypes.CDLL(None).prctl(PR_SET_MDWE + 1, 0, 0, 0, 0) == -1:
        pytest.skip("this kernel (before 6.3) cannot forbid it without systemd")
    deny = f"import ctypes; assert ctypes.CDLL(None).prctl({PR_SET_MDWE}, {PR_MDWE_REFUSE_EXEC_GAIN}, 0, 0, 0) == 0"
    use = "import ssl, sqlite3, uvloop, grpc.aio, httptools; uvloop.new_event_loop().close(); ssl.create_default_context()"
    code = f"{deny}; import {program}; {use}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
