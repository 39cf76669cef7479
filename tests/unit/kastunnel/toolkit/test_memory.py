"""What was made at the start is not looked at again."""

from __future__ import annotations

import subprocess
import sys


def test_what_is_there_is_frozen_and_young_collections_are_rare() -> None:
    code = "import gc; from kastunnel.toolkit.memory import settle; settle(); print(gc.get_freeze_count() > 1000, gc.get_threshold())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True (5000, 10, 20)"
