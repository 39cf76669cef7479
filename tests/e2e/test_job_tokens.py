"""Tokens of kas's own in the life of a job: by a project's secret, for an ID token, renewed by the plugin, given back at the end."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT, chosen
from tests.support.id_tokens import IdTokens, id_tokens
from tests.support.kubectls import Kubectl, any_kubectl, kubectl_program
from tests.support.product import Agent, Product

LIFE_S = 4
CI_ACCESS = {"ci_access": {"projects": [{"id": JOBS_PROJECT}, {"id": "acme/web", "issuer": "github"}]}}


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdTokens]:
    with id_tokens(tmp_path_factory.mktemp("issuer")) as running:
        yield running


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory, issuer: IdTokens) -> Iterator[Product]:
    options = {"issuers": [issuer.config], "job_tokens": {"exchanged_ttl_s": 3600}}
    with Product(tmp_path_factory.mktemp("product"), options) as running:
        yield running


@pytest.fixture(scope="module")
def agent(product: Product, cluster: Path) -> Agent:
    made = product.register("production", CONFIG_PROJECT)
    product.configure(made, json.dumps(CI_ACCESS))
    product.start_agentk(made, cluster)
    return made


def post(product: Product, path: str, token: str, body: bytes = b"", kind: str = "application/json") -> tuple[int, Any]:
    """As curl would."""
    headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(product.management_url + path, data=body, headers=headers)
    context = ssl.create_default_context(cafile=str(product.ca_file))
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def exchange(product: Product, id_token: str) -> str:
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": id_token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
    }
    status, answer = post(product, "/kas/v1/token", "", urlencode(form).encode(), "application/x-www-form-urlencoded")
    assert status == 200, answer
    return str(answer["access_token"])


def private(file: Path, text: str) -> Path:
    file.touch(mode=0o600)
    file.write_text(text)
    return file


def kubeconfig_of(product: Product, agent: Agent, token: str, folder: Path) -> Path:
    return chosen(product, product.kubeconfig(private(folder / "job.token", token)), agent)


def in_force(product: Product) -> int:
    return len(json.loads(product.command("job-token", "list", "--output", "json")))


def test_a_projects_secret_gets_a_job_token_and_revoking_it_ends_access(
    product: Product, agent: Agent, tmp_path: Path
) -> None:
    words = ("project", "register", JOBS_PROJECT, "--ref", "main", "--output", "json")
    registered = json.loads(product.command(*words))
    status, answer = post(product, "/kas/v1/job-tokens", registered["secret"], b'{"ref": "main", "job_id": 7}')
    assert status == 201, answer
    job = Kubectl(any_kubectl(), kubeconfig_of(product, agent, answer["token"], tmp_path), tmp_path)
    assert "default" in job.run("get", "namespaces")

    status, refused = post(product, "/kas/v1/job-tokens", registered["secret"], b'{"ref": "develop"}')
    assert (status, refused["error"]) == (403, "ref: branch 'develop' may not be claimed with this secret")

    with job.running("get", "namespaces", "--watch", "--no-headers") as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline()
        said = product.command("project", "revoke", str(registered["id"]))
        assert said == f"Revoked registration {registered['id']}, and 1 job token with it.\n"
        started = time.monotonic()
        watch.stdout.read()
        assert time.monotonic() - started < 5
    assert "You must be logged in" in job.run("get", "namespaces", fails=True)
    assert post(product, "/kas/v1/job-tokens", registered["secret"], b"{}")[0] == 401


def test_a_job_that_gives_its_token_back_has_no_open_streams_left(
    product: Product, agent: Agent, issuer: IdTokens, tmp_path: Path
) -> None:
    token = exchange(product, issuer.token(run_id="901"))
    job = Kubectl(any_kubectl(), kubeconfig_of(product, agent, token, tmp_path), tmp_path)
    with job.running("get", "namespaces", "--watch", "--no-headers") as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline()
        assert post(product, "/kas/v1/job-tokens/revoke", token)[0] == 200
        started = time.monotonic()
        watch.stdout.read()
        assert time.monotonic() - started < 5
    assert post(product, "/kas/v1/job-tokens/revoke", token)[0] == 401


def test_the_kubeconfig_of_an_id_token_outlives_the_id_token(
    product: Product, agent: Agent, issuer: IdTokens, tmp_path: Path
) -> None:
    id_token = issuer.token(run_id="902")
    kubeconfig = kubeconfig_of(product, agent, id_token, tmp_path)
    assert id_token not in kubeconfig.read_text()
    (user,) = yaml.safe_load(kubeconfig.read_text())["users"]
    assert user["user"]["token"].startswith(f"ci:{agent.id}:kasjob-")
    assert "default" in Kubectl(any_kubectl(), kubeconfig, tmp_path).run("get", "namespaces")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.27", "1.33"])
def test_a_long_job_renews_its_token_by_itself(
    product: Product, agent: Agent, issuer: IdTokens, tmp_path: Path, version: str
) -> None:
    program = kubectl_program(version)
    id_file = private(tmp_path / "id-token", issuer.token())
    words = ("kubeconfig", "--exec", "--token-file", str(id_file), "--ttl", f"{LIFE_S}s")
    kubeconfig = private(tmp_path / "kubeconfig", product.command(*words))
    text = kubeconfig.read_text()
    assert "kasjob-" not in text
    assert id_file.read_text() not in text
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    job = Kubectl(program, chosen(product, kubeconfig, agent), tmp_path, {"XDG_RUNTIME_DIR": str(runtime)})

    kept = set()
    with job.running("proxy", "--port=0") as proxy:  # one kubectl that lives through all of it
        assert proxy.stdout is not None
        port = proxy.stdout.readline().rpartition(b":")[2].strip().decode()
        end = time.monotonic() + 3.5 * LIFE_S
        while time.monotonic() < end:
            id_file.write_text(issuer.token())
            assert "default" in job.run("get", "namespaces")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/version", timeout=20) as answer:
                assert answer.status == 200
            kept |= {file.read_text() for file in runtime.glob(".kas-credential-*") if file.stat().st_size}
            time.sleep(0.3)
    assert len(kept) >= 4
    assert all(file.stat().st_mode & 0o077 == 0 for file in runtime.iterdir())


def test_many_kubectls_at_once_exchange_one_id_token(
    product: Product, agent: Agent, issuer: IdTokens, tmp_path: Path
) -> None:
    private(tmp_path / "id-token", issuer.token(run_id="903"))
    words = ("kubeconfig", "--exec", "--token-file", str(tmp_path / "id-token"))
    kubeconfig = private(tmp_path / "kubeconfig", product.command(*words))
    job = Kubectl(any_kubectl(), chosen(product, kubeconfig, agent), tmp_path / "home")
    before = in_force(product)
    running = [job.running("get", "namespaces") for _ in range(5)]
    processes = [one.__enter__() for one in running]
    outputs = [process.communicate(timeout=60) for process in processes]
    for one in running:
        one.__exit__(None, None, None)
    assert all(b"default" in out for out, _ in outputs), outputs
    assert in_force(product) <= before + 1


def test_a_plugin_without_its_id_token_says_so_and_shows_no_secret(
    product: Product, agent: Agent, issuer: IdTokens, tmp_path: Path
) -> None:
    id_file = private(tmp_path / "id-token", issuer.token(run_id="904"))
    words = ("kubeconfig", "--exec", "--token-file", str(id_file))
    kubeconfig = private(tmp_path / "kubeconfig", product.command(*words))
    job = Kubectl(any_kubectl(), chosen(product, kubeconfig, agent), tmp_path / "home")
    expired = issuer.token(iat=int(time.time()) - 900, exp=int(time.time()) - 600)
    id_file.write_text(expired)
    said = job.run("get", "namespaces", fails=True)
    assert "kas: " in said
    assert "the ID token has expired" in said
    assert expired not in said
    os.unlink(id_file)
    assert "cannot be read" in job.run("get", "namespaces", fails=True)


TOP = Path(__file__).parents[2]


def shell(product: Product, folder: Path, script: str, **variables: str) -> str:
    """Standard output of a script of the documents, run in ``folder`` as a job's shell would."""
    (folder / "bin").mkdir(exist_ok=True)
    kubectl = folder / "bin" / "kubectl"
    if not kubectl.exists():
        kubectl.symlink_to(any_kubectl())
    environment = {
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "HOME": str(folder),
        "NO_PROXY": "localhost",
        "KAS_URL": product.management_url,
        "KAS_CA_FILE": str(product.ca_file),
        **variables,
    }
    done = subprocess.run(
        ["sh", "-xe", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def example(name: str) -> str:
    (text,) = re.findall(rf"^```sh {name}\n(.*?)^```$", (TOP / "docs/issuers.md").read_text(), re.MULTILINE | re.DOTALL)
    return str(text)


@pytest.fixture
def curl() -> None:
    if shutil.which("curl") is None or shutil.which("jq") is None:
        pytest.skip("the examples need curl and jq")


@pytest.mark.usefixtures("curl")
def test_the_examples_of_issuers_md_do_what_they_say(
    product: Product, agent: Agent, issuer: IdTokens, tmp_path: Path
) -> None:
    private(tmp_path / "id-token", issuer.token(run_id="905"))
    said = shell(product, tmp_path, example("exchange"))
    answer = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert answer["expires_in"] == 7200
    token_file = private(tmp_path / "token", answer["access_token"])
    before = in_force(product)
    shell(product, tmp_path, example("revoke"), KAS_TOKEN_FILE=str(token_file))
    assert in_force(product) == before - 1

    secret = product.command("project", "register", JOBS_PROJECT, "--ref", "main", "--protected").strip()
    shell(product, tmp_path, example("job-token"), KAS_SECRET=secret, BUILD_TAG="jenkins-web-12")
    assert in_force(product) == before


@pytest.mark.usefixtures("curl")
def test_the_jenkinsfile_deploys_and_gives_its_token_back(
    product: Product, agent: Agent, admin: Kubectl, tmp_path: Path
) -> None:
    words = ("--ref", "main", "--protected", "--environment", "production=production")
    secret = product.command("project", "register", JOBS_PROJECT, *words).strip()
    text = (TOP / "examples/jenkins/Jenkinsfile").read_text()
    deploy, post_step = (one.replace("\\\\", "\\") for one in re.findall(r"sh '''(.*?)'''", text, re.DOTALL))
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/map.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-jenkins, namespace: default}\n"
    )
    variables = {
        "KAS_SECRET": secret,
        "KUBE_CONTEXT": agent.context,
        "BRANCH_NAME": "main",
        "BUILD_NUMBER": "12",
        "BUILD_TAG": "jenkins-shop-web-main-12",
    }
    before = in_force(product)
    said = shell(product, tmp_path, deploy, **variables)
    assert "configmap/from-jenkins created" in said
    assert "kasjob-" not in said
    assert secret not in said
    assert admin.run("get", "configmap", "from-jenkins", "-o", "name")
    assert in_force(product) == before + 1
    assert "kasjob-" not in shell(product, tmp_path, post_step, **variables)
    assert in_force(product) == before
    assert not (tmp_path / ".kas").exists()
