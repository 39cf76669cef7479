"""The demo from curtain to curtain."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import yaml

import kas
from kas.demo import without_kubectl
from kas.demo.clusters import Cluster, practice_cluster, real_cluster
from kas.demo.narrator import Narrator
from kas.demo.processes import DemoFailed, Processes
from kas.demo.stage import AGENT, CONTEXT, JOBS_PROJECT, STRANGERS_PROJECT, Stage
from kas.demo.transcript import Job

EXAMPLE = Path(kas.__file__).parent.parent / "examples" / "hello"
IMAGE = "busybox:1.37"


def play(*, once: bool, kube: Path | None, image: str) -> int:
    """Play it; the exit code. Whatever happens, nothing is left behind: no process, no file, nothing in the cluster."""
    narrator = Narrator()
    try:
        with _interruptible(), ExitStack() as stack:
            folder = stack.enter_context(_folder())
            processes = stack.enter_context(Processes(folder))
            _play(stack, folder, processes, narrator, once=once, kube=kube, image=image)
    except DemoFailed as error:
        narrator.failed(str(error))
    except KeyboardInterrupt:
        narrator.say("\nEnded; nothing is left behind.")
    return 0 if not narrator.failures else 1


def _play(
    stack: ExitStack,
    folder: Path,
    processes: Processes,
    narrator: Narrator,
    *,
    once: bool,
    kube: Path | None,
    image: str,
) -> None:
    kubectl = _kubectl()
    narrator.chapter("A cluster")
    cluster = _cluster(stack, folder, processes, narrator, kube, kubectl)
    stage = Stage(folder, processes, narrator)
    narrator.chapter("A server, and an agent that dials out to it")
    stage.start_kas()
    token_file = stage.register_agent()
    stage.commit_configuration(cluster.namespace)
    stage.start_agentk(token_file, cluster.kubeconfig)
    narrator.chapter(f"A CI job of {JOBS_PROJECT}, which is let in")
    kubeconfig = stage.job_kubeconfig(stage.job_token(JOBS_PROJECT, "job"))
    narrator.passed(f"the job has the context {CONTEXT} and no credential of the cluster")
    stranger = stage.job_token(STRANGERS_PROJECT, "stranger")
    forged = stage.forged_kubeconfig(kubeconfig, stranger)
    if kubectl is None:
        without_kubectl.play(kubeconfig, EXAMPLE, cluster.namespace, narrator)
        _tell_of_strangers(narrator)
        without_kubectl.is_denied(forged, cluster.namespace, narrator)
    else:
        example = _example(folder, image) if kube is not None else EXAMPLE
        job = Job(kubectl, kubeconfig, folder, narrator)
        stack.callback(job.clean_up, example)
        job.deploy(example, "examples/hello")
        _tell_of_strangers(narrator)
        denied = Job(kubectl, forged, folder, narrator)
        denied.step("config", "use-context", CONTEXT)
        denied.is_denied()
    narrator.verdict()
    if not once:
        _stay(processes, narrator, kubeconfig)


def _cluster(
    stack: ExitStack, folder: Path, processes: Processes, narrator: Narrator, kube: Path | None, kubectl: Path | None
) -> Cluster:
    if kube is None:
        return practice_cluster(folder, processes, narrator)
    if kubectl is None:
        raise DemoFailed("--kube needs kubectl: install it, or name it with the environment variable KUBECTL")
    return stack.enter_context(real_cluster(kube, kubectl, folder, narrator))


def _tell_of_strangers(narrator: Narrator) -> None:
    narrator.chapter(f"A CI job of {STRANGERS_PROJECT}, which is not")
    narrator.say(f"Its own kubeconfig is empty; so it takes the shop's, and puts its own token in for agent {AGENT}.")


def _stay(processes: Processes, narrator: Narrator, kubeconfig: Path) -> None:
    narrator.chapter("Try it by hand, until Ctrl-C")
    narrator.command(f"export KUBECONFIG={kubeconfig}")
    narrator.command("kubectl get pods -w")
    while not (ended := processes.ended()):
        time.sleep(0.5)
    raise DemoFailed(f"{ended} has ended by itself; it said:\n{processes.log(ended).read_text()[-2000:]}")


def _kubectl() -> Path | None:
    named = os.environ.get("KUBECTL")  # set and empty: do without
    if named is None:
        named = shutil.which("kubectl")
    return Path(named).absolute() if named else None


def _example(folder: Path, image: str) -> Path:
    """examples/hello with another image; one that is on the node already is not pulled."""
    copied = folder / "hello"
    shutil.copytree(EXAMPLE, copied)
    file = copied / "kustomization.yaml"
    document = yaml.safe_load(file.read_text())
    name, _, tag = image.rpartition(":")
    document["images"] = [{"name": "busybox", "newName": name, "newTag": tag}]
    if name.startswith("localhost/"):
        change = [{"op": "add", "path": "/spec/template/spec/containers/0/imagePullPolicy", "value": "Never"}]
        document["patches"] = [{"target": {"kind": "Deployment"}, "patch": yaml.safe_dump(change)}]
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return copied


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kas-demo-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
