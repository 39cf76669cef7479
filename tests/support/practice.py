"""The practice cluster as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STOP_LIMIT_S = 10


@contextmanager
def practice_cluster(folder: Path, port: int = 0) -> Iterator[Path]:
    """Serves while the block runs; yields the administrator's kubeconfig, in ``folder``."""
    command = [sys.executable, "-m", "kas.demo.practice_cluster", "--directory", str(folder), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        kubeconfig = Path(process.stdout.readline().strip())
        try:
            assert kubeconfig.is_file()
            yield kubeconfig
        finally:
            process.terminate()
            assert process.wait(STOP_LIMIT_S) == 0
