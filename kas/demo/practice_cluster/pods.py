"""The only node: runs the containers of every pod as local processes and keeps the pods' status true."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from kas.demo.practice_cluster import environment, processes, status
from kas.demo.practice_cluster.containers import Container, folder_of
from kas.demo.practice_cluster.environment import LOCAL_ADDRESS, NODE_NAME
from kas.demo.practice_cluster.events import Events
from kas.demo.practice_cluster.kinds import kind_of
from kas.demo.practice_cluster.objects import Object, Store
from kas.demo.practice_cluster.processes import LocalProcess, Warden
from kastunnel.toolkit.tasks import TaskOwner


@dataclass(frozen=True)
class Machine:
    """What all pods share."""

    store: Store
    events: Events
    warden: Warden
    pods: Path  # folder of the containers' files
    programs: Path  # folder that stands first in every PATH


class Node:
    """Runs pods; ``tasks`` owns what runs, so closing it ends them."""

    def __init__(self, machine: Machine, tasks: TaskOwner) -> None:
        self._machine = machine
        self._tasks = tasks
        self._running: dict[str, RunningPod] = {}

    def __repr__(self) -> str:
        return f"<Node pods={len(self._running)}>"

    def reconcile(self) -> None:
        """Start what is new, stop what is to go."""
        alive = set()
        for pod in self._machine.store.select(kind_of("pods")):
            uid = pod["metadata"]["uid"]
            alive.add(uid)
            if uid not in self._running:
                self._running[uid] = RunningPod(self._machine, pod)
                self._tasks.spawn(self._running[uid].run(), name=f"pod {pod['metadata']['name']}")
            if "deletionTimestamp" in pod["metadata"]:
                self._running[uid].stop(pod["metadata"].get("deletionGracePeriodSeconds", 30))
        for uid in self._running.keys() - alive:
            self._running.pop(uid).stop(0)

    def container(self, pod: Object, name: str) -> tuple[RunningPod, Container]:
        """The container of a pod, the first if ``name`` is empty. Raises ApiError 400."""
        running = self._running.get(pod["metadata"]["uid"])
        wanted = name or pod["spec"]["containers"][0]["name"]
        for container in running.containers if running else []:
            if container.name == wanted and running is not None:
                return running, container
        if any(each["name"] == wanted for each in pod["spec"]["containers"]):
            raise status.bad_request(f'container "{wanted}" in pod "{pod["metadata"]["name"]}" is waiting to start')
        raise status.bad_request(f"container {wanted} is not valid for pod {pod['metadata']['name']}")


class RunningPod:
    """One pod, from its first process to its last."""

    def __init__(self, machine: Machine, pod: Object) -> None:
        self._machine = machine
        self._pod = pod
        self._folder = machine.pods / pod["metadata"]["uid"]
        self._started_at = machine.store.timestamp()
        self._grace_s = 0.0
        self._stopping = asyncio.Event()
        self.ports = environment.free_ports(pod)
        policy = pod["spec"]["restartPolicy"]
        first = "OnFailure" if policy == "Always" else policy
        self._first = [self._container(spec, first) for spec in pod["spec"].get("initContainers") or []]
        self._main = [self._container(spec, policy) for spec in pod["spec"]["containers"]]

    @property
    def containers(self) -> list[Container]:
        """All of them, those that run first last."""
        return [*self._main, *self._first]

    def stop(self, grace_s: float) -> None:
        """Ask the processes to end, and kill them after ``grace_s``; a later call can only shorten that."""
        self._grace_s = min(self._grace_s, grace_s) if self._stopping.is_set() else grace_s
        self._stopping.set()

    async def run(self) -> None:
        """Run until the containers have ended for good, or the pod is deleted; then nothing of it is left."""
        try:
            async with asyncio.TaskGroup() as group:
                work = group.create_task(self._work(), name="containers")
                stopped = group.create_task(self._stopping.wait(), name="stop")
                await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    await self._end(work)
                if not self._is_deleted():
                    self._report()
                    await stopped
                stopped.cancel()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._remove()

    async def _work(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._tell("default-scheduler", "Normal", "Scheduled", f"Assigned {self._name()} to {NODE_NAME}")
        self._bind()
        for container in self._first:
            await container.keep_running()
            if container.exit_code != 0:
                return
        async with asyncio.TaskGroup() as group:
            for container in self._main:
                group.create_task(container.keep_running(), name=container.name)

    async def _end(self, work: asyncio.Task[None]) -> None:
        for container in self.containers:
            if container.process is not None:
                self._tell("kubelet", "Normal", "Killing", f"Stopping container {container.name}")
            container.stop()
        await asyncio.wait([work], timeout=self._grace_s)
        work.cancel()

    def _container(self, spec: Object, policy: str) -> Container:
        async def start() -> LocalProcess:
            folder = folder_of(self._machine.pods, self._pod, spec["name"])
            folder.mkdir(parents=True, exist_ok=True)
            variables = self.environment(spec)
            command = environment.command_of(spec, variables)
            stdin, terminal = bool(spec.get("stdin")), bool(spec.get("tty"))
            return await processes.start(
                command, variables, folder, self._machine.warden, stdin=stdin, terminal=terminal
            )

        def told(type_: str, reason: str, message: str) -> None:
            self._tell("kubelet", type_, reason, message)

        return Container(spec, policy, start, self._machine.store, self._report, told, self.ports)

    def environment(self, spec: Object) -> dict[str, str]:
        """The variables of a container. Raises MissingReference."""
        folder = folder_of(self._machine.pods, self._pod, spec["name"])
        return environment.environment_of(
            self._machine.store, self._pod, spec, folder, self._machine.programs, self.ports
        )

    async def execute(self, container: Container, command: list[str], *, stdin: bool, terminal: bool) -> LocalProcess:
        """Start a further process beside a container's own; the caller owns it. Raises CannotStart."""
        folder = folder_of(self._machine.pods, self._pod, container.name)
        return await processes.start(
            command, self.environment(container.spec), folder, self._machine.warden, stdin=stdin, terminal=terminal
        )

    def _name(self) -> str:
        return f"{self._pod['metadata']['namespace']}/{self._pod['metadata']['name']}"

    def _tell(self, component: str, type_: str, reason: str, message: str) -> None:
        self._machine.events.record(kind_of("pods"), self._pod, component, type_, reason, message)

    def _stored(self) -> Object | None:
        metadata = self._pod["metadata"]
        stored = self._machine.store.find(kind_of("pods"), metadata["namespace"], metadata["name"])
        return stored if stored is not None and stored["metadata"]["uid"] == metadata["uid"] else None

    def _is_deleted(self) -> bool:
        stored = self._stored()
        return stored is None or "deletionTimestamp" in stored["metadata"]

    def _bind(self) -> None:
        if (pod := self._stored()) is not None:
            bound = {**pod, "spec": {**pod["spec"], "nodeName": NODE_NAME}}
            self._machine.store.replace(kind_of("pods"), bound)
            self._report()

    def _remove(self) -> None:
        if self._stored() is not None:
            metadata = self._pod["metadata"]
            self._machine.store.remove(kind_of("pods"), metadata["namespace"], metadata["name"])

    def _report(self) -> None:
        """Write the pod's status; nothing is written when nothing changed."""
        pod = self._stored()
        if pod is None:
            return
        before = pod.get("status", {})
        is_ready = all(each.is_ready for each in self._main)
        conditions = {
            "Initialized": all(each.exit_code == 0 for each in self._first),
            "Ready": is_ready,
            "ContainersReady": is_ready,
            "PodScheduled": True,
        }
        written = {
            "phase": self._phase(),
            "conditions": self._conditions(before.get("conditions", []), conditions),
            "hostIP": LOCAL_ADDRESS,
            "hostIPs": [{"ip": LOCAL_ADDRESS}],
            "podIP": LOCAL_ADDRESS,
            "podIPs": [{"ip": LOCAL_ADDRESS}],
            "startTime": self._started_at,
            "qosClass": "BestEffort",
            "containerStatuses": [each.status() for each in self._main],
        }
        if self._first:
            written["initContainerStatuses"] = [each.status() for each in self._first]
        self._machine.store.replace(kind_of("pods"), {**pod, "status": written})

    def _phase(self) -> str:
        if any(each.exit_code for each in self._first):
            return "Failed"
        codes = [each.exit_code for each in self._main]
        if all(code is not None for code in codes):
            return "Failed" if any(codes) else "Succeeded"
        return "Running" if all(each.started for each in self._main) else "Pending"

    def _conditions(self, before: list[Object], now: dict[str, bool]) -> list[Object]:
        old = {condition["type"]: condition for condition in before}
        conditions = []
        for name, value in now.items():
            condition = {
                "type": name,
                "status": "True" if value else "False",
                "lastProbeTime": None,
                "lastTransitionTime": self._machine.store.timestamp(),
            }
            if not value:
                condition["reason"] = "ContainersNotReady"
            if name in old and old[name]["status"] == condition["status"]:
                condition = old[name]
            conditions.append(condition)
        return conditions
