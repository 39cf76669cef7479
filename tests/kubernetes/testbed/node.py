"""The node: containerd, runc and a kubelet, all inside the cluster's folder but for the bridge and the pods' network namespaces."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.kubernetes.testbed.image import BUSYBOX, write_images
from tests.kubernetes.testbed.kubeconfig import write_kubeconfig
from tests.kubernetes.testbed.processes import Processes, processes_naming

CNI_PROGRAMS = Path("/usr/lib/cni")
CNI_RESULTS = Path("/var/lib/cni/results")
CONTAINER_LOG_LINKS = Path("/var/log/containers")
CONTAINERD_LIMIT_S = 30
PODS_END_LIMIT_S = 5


def missing_for_node() -> str | None:
    """Why no pods can run here, or None."""
    if os.geteuid() != 0:
        return "running pods needs root"
    for program, package in (("containerd", "containerd"), ("runc", "runc"), ("ctr", "containerd"), ("ip", "iproute2")):
        if shutil.which(program) is None:
            return f"there is no {program} here (Debian: {package})"
    if not (CNI_PROGRAMS / "bridge").exists():
        return f"there is no {CNI_PROGRAMS / 'bridge'} (Debian: containernetworking-plugins)"
    return None if BUSYBOX.exists() else f"there is no {BUSYBOX} (Debian: busybox-static)"


class Node:
    """The only node, called localhost. ``state`` is the cluster's folder."""

    def __init__(self, state: Path, programs: Path, processes: Processes) -> None:
        self._state = state
        self._programs = programs
        self._processes = processes
        self._socket = state / "containerd.sock"
        self._bridge_file = state / "bridge"

    def up(self, api_port: int, kubelet_port: int) -> None:
        """Start containerd, import the images, start the kubelet. Raises StartFailed."""
        for folder in ("containerd/root", "containerd/state", "cni", "kubelet", "pod-logs"):
            (self._state / folder).mkdir(parents=True, exist_ok=True)
        bridge = f"kube{api_port}"  # at most 15 characters
        self._bridge_file.write_text(bridge)
        (self._state / "cni" / "10-bridge.conflist").write_text(json.dumps(self._network(bridge, api_port)))
        (self._state / "containerd.toml").write_text(self._containerd_config())
        self._processes.start("containerd", ["containerd", "-c", self._state / "containerd.toml"])
        self._processes.wait("containerd", lambda: self._ctr("version") is not None, CONTAINERD_LIMIT_S)
        for image in write_images(self._state):
            self._ctr("images", "import", str(image))
        self._start_kubelet(api_port, kubelet_port)

    def down(self) -> None:
        """Stop the node and take back what it made outside its folder: pods' processes, namespaces, mounts, the bridge."""
        if not self._bridge_file.exists():
            return
        self._processes.stop("kubelet")
        containers, namespaces = self._list("containers"), self._network_namespaces()
        for task in self._list("tasks"):
            self._ctr("tasks", "kill", "-s", "KILL", task)
        deadline = time.monotonic() + PODS_END_LIMIT_S
        while self._running_tasks() and time.monotonic() < deadline:
            time.sleep(0.1)
        for task in self._list("tasks"):
            self._ctr("tasks", "rm", "-f", task)
        self._processes.stop("containerd")
        for shim in processes_naming(f"-address {self._socket}"):
            os.kill(shim, signal.SIGKILL)
        for path in [*namespaces, *self._mounts()]:
            _quietly(["umount", "-l", path])
        for namespace in namespaces:
            Path(namespace).unlink(missing_ok=True)
        _quietly(["ip", "link", "delete", self._bridge_file.read_text()])
        for result in [path for container in containers for path in CNI_RESULTS.glob(f"*-{container}-*")]:
            result.unlink(missing_ok=True)
        for link in CONTAINER_LOG_LINKS.glob("*.log"):
            if str(self._state) in os.readlink(link):
                link.unlink(missing_ok=True)

    def _start_kubelet(self, api_port: int, kubelet_port: int) -> None:
        config, kubeconfig = self._state / "kubelet.json", self._state / "node.conf"
        config.write_text(json.dumps(self._kubelet_config(kubelet_port), indent=1))
        write_kubeconfig(kubeconfig, self._state / "pki", "node", api_port)
        folder = self._state / "kubelet"
        words = [
            f"--config={config}",
            f"--kubeconfig={kubeconfig}",
            f"--root-dir={folder}",
            f"--cert-dir={folder / 'pki'}",
        ]
        self._processes.start("kubelet", [self._programs / "kubelet", *words, "--hostname-override=localhost"])

    def _containerd_config(self) -> str:
        return f"""\
version = 2
root = "{self._state}/containerd/root"
state = "{self._state}/containerd/state"
[grpc]
  address = "{self._socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true  # lowering it needs CAP_SYS_RESOURCE, which a container may lack
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PROGRAMS}"
    conf_dir = "{self._state}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""

    def _kubelet_config(self, port: int) -> dict[str, object]:
        pki = self._state / "pki"
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "port": port,
            "readOnlyPort": 0,
            "healthzPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki / "node.crt"),
            "tlsPrivateKeyFile": str(pki / "node.key"),
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "podLogsDir": str(self._state / "pod-logs"),
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "localStorageCapacityIsolation": False,
            "makeIPTablesUtilChains": False,
            "evictionHard": {
                "memory.available": "1Mi",
                "nodefs.available": "0%",
                "nodefs.inodesFree": "0%",
                "imagefs.available": "0%",
            },
        }

    def _network(self, bridge: str, api_port: int) -> dict[str, object]:
        addresses = {
            "type": "host-local",
            "ranges": [[{"subnet": _free_subnet(api_port)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(self._state / "addresses"),
        }
        plugin = {"type": "bridge", "bridge": bridge, "isGateway": True, "ipMasq": False, "ipam": addresses}
        return {"cniVersion": "0.4.0", "name": bridge, "plugins": [plugin]}

    def _list(self, what: str) -> list[str]:
        return (self._ctr(what, "ls", "-q") or "").split()

    def _running_tasks(self) -> bool:
        return any(line.endswith("RUNNING") for line in (self._ctr("tasks", "ls") or "").splitlines())

    def _network_namespaces(self) -> list[str]:
        """The mounted network namespaces of the pods; containerd makes them outside its folder."""
        found = set()
        for container in self._list("containers"):
            spec = json.loads(self._ctr("containers", "info", container) or "{}").get("Spec", {})
            for namespace in spec.get("linux", {}).get("namespaces", []):
                if namespace["type"] == "network" and namespace.get("path", "").startswith("/var/run/netns/"):
                    found.add(namespace["path"])
        return sorted(found)

    def _mounts(self) -> list[str]:
        """What is mounted inside the cluster's folder, the innermost first."""
        points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        return sorted((point for point in points if point.startswith(f"{self._state}/")), reverse=True)

    def _ctr(self, *words: str) -> str | None:
        """The output of ctr, or None where it failed."""
        command = ["ctr", "-a", str(self._socket), "-n", "k8s.io", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else None


def _free_subnet(api_port: int) -> str:
    # The bridge appears only with the first pod, so clusters that start at once begin at different numbers.
    in_use = subprocess.run(["ip", "-4", "-o", "address"], capture_output=True, text=True, check=True).stdout
    numbers = [(api_port + step) % 256 for step in range(256)]
    return next(f"10.{number}.0.0/16" for number in numbers if f" 10.{number}." not in in_use)


def _quietly(command: Sequence[str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
