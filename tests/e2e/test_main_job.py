"""The main job: what a CI job does with stock kubectl, through kas and agentk, against the practice cluster."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT, chosen
from tests.support.kubectls import Kubectl, kubectl_program
from tests.support.product import Agent, Product

HELLO = Path(__file__).parents[2] / "examples" / "hello"
VERSIONS = ("1.27", "1.30", "1.33")  # SPDY; the last with SPDY by default; WebSocket
TWO_MEGABYTES = random.Random(2).randbytes(2_000_000)


@dataclass(frozen=True)
class Job:
    """A job that has deployed the example into a namespace of its own."""

    kubectl: Kubectl
    namespace: str
    pod: str

    def run(self, *words: str, input: bytes | None = None) -> str:  # noqa: A002 - as subprocess
        return self.kubectl.run("--namespace", self.namespace, *words, input=input)


@pytest.fixture(scope="module", params=VERSIONS)
def kubectl(request: pytest.FixtureRequest, job_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """kubectl in a job, with the transport that it prefers."""
    return Kubectl(kubectl_program(request.param), job_kubeconfig, tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="module")
def job(kubectl: Kubectl, admin: Kubectl) -> Iterator[Job]:
    """The first steps of every job: apply, and wait until the application runs."""
    namespace = "job-" + re.sub(r"\D+", "-", kubectl.program.name).strip("-")
    kubectl.run("create", "namespace", namespace)
    said = kubectl.run("-n", namespace, "apply", "-k", str(HELLO))
    assert "deployment.apps/hello created" in said
    assert "successfully rolled out" in kubectl.run(
        "-n", namespace, "rollout", "status", "deployment/hello", "--timeout=20s"
    )
    pod = kubectl.run("-n", namespace, "get", "pods", "-o", "jsonpath={.items[0].metadata.name}")
    yield Job(kubectl, namespace, pod)
    admin.run("delete", "namespace", namespace)


def test_applying_again_changes_nothing_and_server_side_works_too(job: Job) -> None:
    assert "deployment.apps/hello unchanged" in job.run("apply", "-k", str(HELLO))
    assert "deployment.apps/hello serverside-applied" in job.run(
        "apply", "--server-side", "--force-conflicts", "-k", str(HELLO)
    )


def test_get_prints_a_table(job: Job) -> None:
    rows = job.run("get", "pods").splitlines()
    assert rows[0].split()[:3] == ["NAME", "READY", "STATUS"]
    assert [row.split()[2] for row in rows[1:]] == ["Running", "Running"]


def test_a_watch_sees_a_change_as_it_happens(job: Job) -> None:
    job.run("create", "configmap", "watched", "--from-literal=colour=red")
    words = ("get", "configmap", "watched", "--watch", "-o", "jsonpath={.data.colour}{'\\n'}")
    with job.kubectl.running("--namespace", job.namespace, *words) as watch:
        assert first_line(watch.stdout) == "red"
        job.run("patch", "configmap", "watched", "--type=merge", "-p", '{"data":{"colour":"blue"}}')
        assert first_line(watch.stdout) == "blue"


def test_a_log_is_followed_line_by_line(job: Job) -> None:
    with job.kubectl.running("--namespace", job.namespace, "logs", "-f", "--tail=1", job.pod) as logs:
        first, second = (first_line(logs.stdout) for _ in range(2))
    assert first != second
    assert re.fullmatch(r"Hello number \d+", second)


@pytest.mark.parametrize("code", [0, 3])
def test_exec_ends_with_the_commands_exit_code(job: Job, code: int) -> None:
    words = ("exec", job.pod, "--", "sh", "-c", f"echo out; echo err >&2; exit {code}")
    done = job.kubectl.result("--namespace", job.namespace, *words)
    assert (done.returncode, done.stdout) == (code, b"out\n")
    assert b"err\n" in done.stderr


def test_exec_takes_megabytes_of_standard_input(job: Job) -> None:
    said = job.run("exec", "-i", job.pod, "--", "sha256sum", input=TWO_MEGABYTES)
    assert said.split()[0] == hashlib.sha256(TWO_MEGABYTES).hexdigest()


@pytest.mark.skipif(shutil.which("tar") is None, reason="kubectl cp needs tar in the container, which is this machine")
def test_cp_brings_a_file_there_and_back(job: Job, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(TWO_MEGABYTES)
    job.run("cp", str(there), f"{job.pod}:copied")
    job.run("cp", f"{job.pod}:copied", str(back))
    assert back.read_bytes() == TWO_MEGABYTES


def test_port_forward_reaches_the_pod(job: Job) -> None:
    with job.kubectl.running("--namespace", job.namespace, "port-forward", "service/hello", ":80") as forward:
        found = re.search(r"127\.0\.0\.1:(\d+)", first_line(forward.stdout))
        assert found
        for _ in range(2):
            with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/", timeout=20) as page:
                assert page.read().startswith(b"Hello from hello-")


def test_raw_paths_and_kubectl_proxy_work_at_the_bare_root(job: Job) -> None:
    # kubectl up to 1.33 drops the path of the server's URL for these two.
    assert json.loads(job.run("get", "--raw", "/version"))["major"] == "1"
    with job.kubectl.running("proxy", "--port=0") as proxy:
        found = re.search(r"127\.0\.0\.1:(\d+)", first_line(proxy.stdout))
        assert found
        url = f"http://127.0.0.1:{found[1]}/api/v1/namespaces/{job.namespace}/pods/{job.pod}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert json.load(answer)["metadata"]["name"] == job.pod


def test_what_is_deleted_is_gone(job: Job) -> None:
    job.run("create", "configmap", "short-lived")
    assert 'configmap "short-lived" deleted' in job.run("delete", "configmap", "short-lived")
    gone = job.kubectl.result("--namespace", job.namespace, "get", "configmap", "short-lived")
    assert gone.returncode == 1
    assert b'configmaps "short-lived" not found' in gone.stderr


@pytest.fixture(scope="module")
def ci_job_kubeconfig(product: Product, cluster: Path) -> tuple[Agent, Path]:
    """A job of an agent whose configuration says ``access_as: {ci_job: {}}``, with all that its token can say."""
    agent = product.register("staging", CONFIG_PROJECT)
    entry = {"id": JOBS_PROJECT, "access_as": {"ci_job": {}}}
    product.configure(agent, json.dumps({"ci_access": {"projects": [entry]}}))
    product.start_agentk(agent, cluster)
    claims = [
        *("--project-id", "150", "--group-id", "23", "--group-id", "25", "--ref", "main", "--protected"),
        *("--environment", "review/x", "--environment-slug", "review-x", "--environment-tier", "development"),
        *("--pipeline-id", "7", "--job-id", "42", "--user", "alice"),
    ]
    return agent, chosen(product, product.kubeconfig(product.job_token(JOBS_PROJECT, *claims)), agent)


@pytest.mark.parametrize("minor", VERSIONS)
def test_a_job_acts_under_its_own_identity(ci_job_kubeconfig: tuple[Agent, Path], minor: str, tmp_path: Path) -> None:
    agent, kubeconfig = ci_job_kubeconfig
    kubectl = Kubectl(kubectl_program(minor), kubeconfig, tmp_path)
    if minor == "1.27":  # its `auth whoami` asks for a version of the API that clusters no longer serve
        review = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
        said = kubectl.run("create", "--validate=false", "-f", "-", "-o", "json", input=review)
    else:
        said = kubectl.run("auth", "whoami", "-o", "json")
    who = json.loads(said)["status"]["userInfo"]
    assert who["username"] == "gitlab:ci_job:42"
    groups = [group for group in who["groups"] if group != "system:authenticated"]
    assert groups == [
        "gitlab:ci_job",
        "gitlab:group:23",
        "gitlab:group_env_tier:23:development",
        "gitlab:group:25",
        "gitlab:group_env_tier:25:development",
        "gitlab:project:150",
        "gitlab:project_env:150:review-x",
        "gitlab:project_env_tier:150:development",
    ]
    assert who["extra"] == {
        f"agent.gitlab.com/{key}": [value]
        for key, value in {
            "id": str(agent.id),
            "project_id": "150",
            "ci_pipeline_id": "7",
            "ci_job_id": "42",
            "username": "alice",
            "environment_slug": "review-x",
            "environment_tier": "development",
        }.items()
    }


def first_line(stream: IO[bytes] | None) -> str:
    """The next line; the test's time limit ends a wait for one that never comes."""
    assert stream is not None
    return stream.readline().decode().rstrip("\n")
