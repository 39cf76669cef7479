"""Somebody sets the clock of kas's or agentk's machine: links and open requests do not notice, and new requests are served."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT, chosen
from tests.support.kubectls import Kubectl, any_kubectl
from tests.support.product import Process, Product
from tests.support.shifted_clock import ShiftedClock

HOUR_S = 3600
SETTLED_S = 12  # longer than a beat of the link (10 s), and than any of kas's own looks at what it remembers
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: clock}
spec: {containers: [{name: main, image: busybox, command: [sh, -c, "exec sleep 1000"]}]}
"""
SEEN = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: '{name}', labels: {{who: {who}}}}}\n"
COUNT = "i=0; while sleep 0.1; do i=$((i+1)); echo $i; done"


def clock_of(process: Process) -> float:
    """Unix seconds of its last line of log."""
    return datetime.fromisoformat(re.findall(r'"time":"([^"]+)"', process.said())[-1]).timestamp()


@pytest.mark.slow
@pytest.mark.covers("T-22")
@pytest.mark.parametrize("who", ["kas", "agentk"])
def test_nothing_that_is_open_notices(cluster: Path, admin: Kubectl, tmp_path: Path, who: str) -> None:
    clock = ShiftedClock(tmp_path)
    admin.run("apply", "-f", "-", input=POD)
    admin.run("wait", "--for=condition=Ready", "pod/clock", "--timeout=30s")
    with Product(tmp_path / "product", environment=clock.environment if who == "kas" else {}) as product:
        agent = product.register("far", CONFIG_PROJECT)
        product.configure(agent, json.dumps({"ci_access": {"projects": [{"id": JOBS_PROJECT}]}}))
        agentk = product.start_agentk(agent, cluster, environment=clock.environment if who == "agentk" else {})
        kas = product.kas
        assert kas is not None
        token = product.job_token(JOBS_PROJECT, "--ttl", "4h")
        job = Kubectl(any_kubectl(), chosen(product, product.kubeconfig(token), agent), tmp_path)
        with (
            job.running("exec", "clock", "--", "sh", "-c", COUNT) as counting,
            job.running("get", "configmaps", "--watch", "--output=name", f"--selector=who={who}") as watch,
        ):
            assert counting.stdout is not None
            assert watch.stdout is not None
            count = 0
            for shift_s in (0, HOUR_S, -HOUR_S):
                clock.jump(shift_s)
                until = time.monotonic() + (SETTLED_S if shift_s else 0)
                while not count or time.monotonic() < until:
                    count += 1
                    assert (line := counting.stdout.readline()) == b"%d\n" % count, line
                job.run("apply", "-f", "-", input=SEEN.format(name=f"{who}{shift_s}", who=who))
                assert watch.stdout.readline() == f"configmap/{who}{shift_s}\n".encode()
                job.run("exec", "clock", "--", "true")
            assert (counting.poll(), watch.poll()) == (None, None)
        assert agentk.said().count("linked to kas") == 1
        product.close()
        shifted = kas if who == "kas" else agentk
        assert abs(clock_of(shifted) - (time.time() - HOUR_S)) < 60, "the clock did not jump"
    admin.run("delete", "configmap", f"--selector=who={who}")
