"""One container: a local process that is started again when it ends, its state, its log, its readiness."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from kas.demo.practice_cluster import environment, processes
from kas.demo.practice_cluster.container_logs import ContainerLog
from kas.demo.practice_cluster.objects import Object, Store
from kas.demo.practice_cluster.processes import LocalProcess

FIRST_BACK_OFF_S = 1.0  # Kubernetes begins with 10 s; a demo has less patience
LAST_BACK_OFF_S = 30.0
STEADY_AFTER_S = 10.0  # a process that ran this long starts with the first back-off again
DRAIN_S = 1.0  # for output that children of an ended process still hold open
PROBE_UNTIL_READY_S = 0.2  # readiness is what everybody waits for, whatever period the probe has
RETRY_REFERENCE_S = 1.0

Told = Callable[[str, str, str], None]  # type, reason, message of an event


class Container:
    """A container of a pod; ``changed`` is called whenever what its status shows has changed."""

    def __init__(
        self,
        spec: Object,
        restart_policy: str,
        start: Callable[[], Awaitable[LocalProcess]],
        store: Store,
        changed: Callable[[], None],
        told: Told,
        ports: dict[int, int],
    ) -> None:
        self.name: str = spec["name"]
        self.spec = spec
        self.log = ContainerLog(store.now)
        self.process: LocalProcess | None = None
        self.exit_code: int | None = None  # of a container that will not be started again
        self.is_ready = False
        self.restarts = 0
        self.started = False
        self._restart_policy = restart_policy
        self._start = start
        self._store = store
        self._changed = changed
        self._told = told
        self._ports = ports  # container port → local port
        self._state: Object = {"waiting": {"reason": "ContainerCreating"}}
        self._last_state: Object = {}
        self._id = ""
        self._stopping = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Container {self.name} state={next(iter(self._state))} restarts={self.restarts}>"

    def status(self) -> Object:
        """Its entry in ``containerStatuses``."""
        return {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": "practice-cluster://no-image-a-local-process",
            "containerID": f"practice-cluster://{self._id}" if self._id else "",
            "ready": self.is_ready,
            "started": "running" in self._state,
            "restartCount": self.restarts,
            "state": self._state,
            "lastState": self._last_state,
        }

    def stop(self) -> None:
        """Ask the process to end, and do not start it again."""
        self._stopping.set()
        if self.process is not None:
            self.process.signal(signal.SIGTERM)

    async def keep_running(self) -> None:
        """Run it as its restart policy says; returns when it has ended for good. Cancelled, it kills the process."""
        back_off_s = FIRST_BACK_OFF_S
        loop = asyncio.get_running_loop()
        try:
            while not self._stopping.is_set():
                began = loop.time()
                code = await self._run_once()
                if code is None:
                    await self._pause(RETRY_REFERENCE_S)
                    continue
                if self._stopping.is_set() or not self._is_restarted(code):
                    self.exit_code = code
                    return
                if loop.time() - began > STEADY_AFTER_S:
                    back_off_s = FIRST_BACK_OFF_S
                await self._back_off(back_off_s)
                back_off_s = min(back_off_s * 2, LAST_BACK_OFF_S)
        finally:
            self.log.end()
            self.is_ready = False
            self._changed()

    def _is_restarted(self, code: int) -> bool:
        return self._restart_policy == "Always" or (self._restart_policy == "OnFailure" and code != 0)

    async def _back_off(self, seconds: float) -> None:
        message = f"back-off {seconds:.0f}s restarting failed container={self.name}"
        self._last_state = self._state
        self._set_state("waiting", reason="CrashLoopBackOff", message=message)
        self._told("Warning", "BackOff", f"Back-off restarting failed container {self.name}")
        await self._pause(seconds)
        self.restarts += 1

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _run_once(self) -> int | None:
        """The exit code of one run; None if it could not be tried."""
        began = self._store.timestamp()
        try:
            self.process = await self._start()
        except environment.MissingReference as error:
            self._told("Warning", "Failed", f"Error: {error}")
            self._set_state("waiting", reason="CreateContainerConfigError", message=str(error))
            return None
        except processes.CannotStart as error:
            self._told("Warning", "Failed", f"Error: {error}")
            self._set_terminated(128, began, reason="StartError", message=str(error))
            return 128
        try:
            return await self._watched(self.process, began)
        finally:
            process, self.process = self.process, None
            self.is_ready = False
            process.drained.set()
            await process.close()

    async def _watched(self, process: LocalProcess, began: str) -> int:
        self._id = uuid.uuid4().hex
        self.started = True
        self.is_ready = self._probe_port() is None
        self._told("Normal", "Started", f"Started container {self.name}")
        self._set_state("running", startedAt=began)
        async with asyncio.TaskGroup() as group:
            pumps = [group.create_task(self._pump("stdout", process.stdout), name="stdout")]
            if process.stderr is not None:
                pumps.append(group.create_task(self._pump("stderr", process.stderr), name="stderr"))
            probe = group.create_task(self._probe(), name="probe")
            code = await process.wait()
            probe.cancel()
            await asyncio.wait(pumps, timeout=DRAIN_S)
            for pump in pumps:
                pump.cancel()
        self.log.flush()
        self.is_ready = False
        self._set_terminated(code, began, reason="Completed" if code == 0 else "Error")
        return code

    async def _pump(self, stream: str, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):  # a terminal whose other side is gone
            while data := await reader.read(processes.READ_BYTES):
                await self.log.add(stream, data)

    def _probe_port(self) -> str | int | None:
        probe = self.spec.get("readinessProbe") or {}
        action = probe.get("httpGet") or probe.get("tcpSocket")  # both are taken for "does it listen?"
        return action["port"] if action else None

    async def _probe(self) -> None:
        """Keep ``is_ready`` true to the readiness probe, if there is one."""
        if (port := self._probe_port()) is None:
            return
        period_s = float(self.spec["readinessProbe"]["periodSeconds"])
        while True:
            ready = await _listens(self.local_port(port))
            if ready != self.is_ready:
                self.is_ready = ready
                self._changed()
            await asyncio.sleep(period_s if ready else min(period_s, PROBE_UNTIL_READY_S))

    def local_port(self, port: str | int) -> int:
        """Where a port of the container, by number or name, is on this machine."""
        for declared in self.spec.get("ports") or []:
            if port in (declared.get("name"), declared["containerPort"]):
                port = declared["containerPort"]
                break
        return self._ports.get(int(port), int(port)) if str(port).isdigit() else 0

    def _set_terminated(self, code: int, began: str, **more: str) -> None:
        signalled = {"signal": code - 128} if code > 128 else {}
        self._set_state(
            "terminated",
            exitCode=code,
            startedAt=began,
            finishedAt=self._store.timestamp(),
            containerID=f"practice-cluster://{self._id}",
            **signalled,
            **more,
        )

    def _set_state(self, name: str, **content: Any) -> None:
        self._state = {name: content}
        self._changed()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(environment.LOCAL_ADDRESS, port)
    except OSError:
        return False
    writer.close()
    return True


def folder_of(root: Path, pod: Object, name: str) -> Path:
    """The working folder of a container; its files go when the pod goes."""
    return root / str(pod["metadata"]["uid"]) / name
