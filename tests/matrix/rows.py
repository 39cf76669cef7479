"""The rows: what users do with kubectl. Each runs on either side in a namespace that ``prepare`` has filled."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from typing import NamedTuple

from tests.matrix.further import further
from tests.matrix.sides import MIB, Side

BULK = hashlib.shake_256(b"bulk").digest(4 * MIB)
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{key: {value}}}\n"
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: main, image: {image}, imagePullPolicy: IfNotPresent, command: [sh, -c, "echo up; exec sleep 100000"]}}]
"""
POD = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 0
  restartPolicy: Never
  containers: [{{name: main, image: {image}, imagePullPolicy: IfNotPresent, command: [sh, -c, {command}]}}]
"""
SERVES = "mkdir -p /www; echo it works >/www/index.html; httpd -p 8080 -h /www; exec sleep 100000"
TICKS = "while sleep 0.2; do echo tick; done"
COUNTS = "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.1; done"
# A terminal gets its size a moment after it begins.
UNTIL = "i=0; while [ \"$(stty size 2>&1)\" != '{0}' ] && [ $i -lt 80 ]; do sleep 0.1; i=$((i+1)); done; stty size"
SIZES = f"{UNTIL.format('40 100')}; echo NEXT; {UNTIL.format('50 120')}"


class Row(NamedTuple):
    """One row. ``practice``: the practice cluster offers it as well."""

    name: str
    run: Callable[[Side], None]
    practice: bool = True


def pod(name: str, command: str, side: Side) -> str:
    """The text of a pod."""
    return POD.format(name=name, image=side.image, command=json.dumps(command))


def prepare(side: Side, serves: str = SERVES) -> None:
    """What the rows need. Not part of any record."""
    side.kubectl.run("create", "namespace", side.namespace)
    side.kubectl.run("config", "set-context", "--current", f"--namespace={side.namespace}")
    texts = [pod("shell", serves, side), pod("ticker", TICKS, side), pod("counter", COUNTS, side)]
    texts.append(CONFIG.format(name="data", value="one"))
    deadline = time.monotonic() + 20
    while "default" not in side.kubectl.run("get", "serviceaccounts", "--output=name"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    side.kubectl.run("apply", "--filename", "-", input="\n---\n".join(texts))
    side.kubectl.run("wait", "--for=condition=Ready", "--timeout=50s", "pod/shell", "pod/ticker")


def get(side: Side) -> None:
    side.run("get", "configmap", "data")
    side.run("get", "configmap", "data", "--output=jsonpath={.data.key}")
    side.run("get", "configmap", "data", "--output=yaml")
    side.run("get", "pods", "--output=name")
    side.run("get", "pod", "shell", "--no-headers")
    side.run(
        "get", "pods", "--selector=app in (shell,ticker)", "--field-selector=status.phase=Running", "--output=name"
    )
    side.run("get", "configmap", "nothing")
    side.run("get", "nonsense")
    side.run("get", "pods", "--chunk-size=1", "--output=name")


def get_watch(side: Side) -> None:
    with side.running(
        "get", "configmaps", "--watch", "--output=name", "--field-selector=metadata.name=watched"
    ) as watch:
        for value in ("one", "two"):
            side.run("apply", "--filename", "-", input=CONFIG.format(name="watched", value=value))
            side.lines(watch, 1, f"the watch after {value}")
        side.run("delete", "configmap", "watched")
        side.lines(watch, 1, "the watch after its end")
    side.run("get", "configmaps", "--watch-only", "--output=name", "--request-timeout=2s")


def describe(side: Side) -> None:
    side.run("describe", "configmap", "data")
    side.run("describe", "configmap", "nothing")


def wait(side: Side) -> None:
    side.run("wait", "--for=condition=Ready", "pod/shell", "--timeout=10s")
    side.run("wait", "--for=jsonpath={.data.key}=one", "configmap/data", "--timeout=10s")
    side.run("wait", "--for=condition=Nonsense", "pod/shell", "--timeout=1s")
    side.run("create", "configmap", "passing")
    side.run("delete", "configmap", "passing", "--wait=false")
    side.run("wait", "--for=delete", "configmap/passing", "--timeout=10s")


def rollout(side: Side) -> None:
    text = DEPLOYMENT.format(image=side.image)
    side.run("apply", "--filename", "-", input=text)
    side.run("rollout", "status", "deployment/web", "--timeout=50s", hidden=True)
    side.run("rollout", "history", "deployment/web")
    side.run("rollout", "restart", "deployment/web")
    side.run("rollout", "status", "deployment/web", "--timeout=50s", hidden=True)
    side.run("rollout", "pause", "deployment/web")
    side.run("rollout", "resume", "deployment/web")
    side.run("delete", "deployment", "web", "--cascade=foreground", "--timeout=50s")


def scale(side: Side) -> None:
    side.run("create", "deployment", "scaled", f"--image={side.image}", "--replicas=0")
    side.run("scale", "deployment/scaled", "--current-replicas=0", "--replicas=0")
    side.run("scale", "deployment/scaled", "--current-replicas=5", "--replicas=1")
    side.run("get", "deployment", "scaled", "--output=jsonpath={.spec.replicas}")
    side.run("delete", "deployment", "scaled")


def apply(side: Side) -> None:
    side.run("apply", "--filename", "-", input=CONFIG.format(name="applied", value="one"))
    side.run("apply", "--filename", "-", input=CONFIG.format(name="applied", value="one"))
    side.run("apply", "--filename", "-", input=CONFIG.format(name="applied", value="two"))
    side.run("apply", "--filename", "-", "--dry-run=server", input=CONFIG.format(name="applied", value="three"))
    side.run("get", "configmap", "applied", "--output=jsonpath={.data.key}")
    side.run("apply", "--filename", "-", input="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: wrong}\ndatas: {}\n")
    side.run("apply", "--filename", "-", input="this is: [not yaml")
    side.run("delete", "configmap", "applied")


def apply_server_side(side: Side) -> None:
    side.run("apply", "--server-side", "--filename", "-", input=CONFIG.format(name="ssa", value="one"))
    other = ("apply", "--server-side", "--field-manager=other", "--filename", "-")
    side.run(*other, input=CONFIG.format(name="ssa", value="two"))
    side.run(*other, "--force-conflicts", input=CONFIG.format(name="ssa", value="two"))
    side.run("get", "configmap", "ssa", "--output=jsonpath={.data.key}")
    side.run("delete", "configmap", "ssa")


def apply_kustomized(side: Side) -> None:
    folder = side.folder / "kustomized"
    folder.mkdir(exist_ok=True)
    (folder / "kustomization.yaml").write_text("namePrefix: k-\nresources: [one.yaml]\n")
    (folder / "one.yaml").write_text(CONFIG.format(name="one", value="kustomized"))
    side.run("apply", "--kustomize", str(folder))
    side.run("get", "configmap", "k-one", "--output=jsonpath={.data.key}")
    side.run("delete", "--kustomize", str(folder))


def diff(side: Side) -> None:
    side.run("apply", "--filename", "-", input=CONFIG.format(name="compared", value="one"))
    side.run("diff", "--filename", "-", input=CONFIG.format(name="compared", value="one"))
    side.run("diff", "--filename", "-", input=CONFIG.format(name="compared", value="two"))
    side.run("delete", "configmap", "compared")


def create(side: Side) -> None:
    side.run("create", "configmap", "made", "--from-literal=key=value")
    side.run("create", "configmap", "made", "--from-literal=key=value")
    file = side.folder / "large"
    file.write_bytes(BULK[: 600 * 1024])
    side.run("create", "configmap", "large", f"--from-file={file}")
    side.run_hashed("get", "configmap", "large", "--output=jsonpath={.binaryData}")
    side.run("create", "--filename", "-", input=CONFIG.format(name="Not_A_Name", value="x"))
    side.run("create", "secret", "generic", "made", "--from-literal=key=value")
    side.run("delete", "configmap/made", "configmap/large", "secret/made")


def delete(side: Side) -> None:
    for name in ("a", "b"):
        side.run("create", "configmap", name)
        side.run("label", "configmap", name, "to=go")
    side.run("delete", "configmap", "--selector=to=go")
    side.run("delete", "configmap", "a")
    side.run("delete", "configmap", "a", "--ignore-not-found")


def patch(side: Side) -> None:
    side.run("patch", "configmap", "data", '--patch={"data":{"more":"1"}}')
    side.run("patch", "configmap", "data", "--type=merge", '--patch={"data":{"more":null}}')
    side.run("patch", "configmap", "data", "--type=json", '--patch=[{"op":"add","path":"/data/json","value":"yes"}]')
    side.run("patch", "configmap", "data", "--type=json", '--patch=[{"op":"test","path":"/data/json","value":"no"}]')
    side.run("get", "configmap", "data", "--output=jsonpath={.data}")
    side.run("annotate", "configmap", "data", "note=this")
    side.run("label", "configmap", "data", "colour=blue", "--overwrite")


def logs(side: Side) -> None:
    side.run("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/counter", "--timeout=30s", hidden=True)
    side.run("logs", "counter")
    side.run("logs", "counter", "--tail=2")
    side.run("logs", "counter", "--follow")
    side.run("logs", "nobody")


def logs_follow(side: Side) -> None:
    # It lives on for a while: of a pod that ends in the second it began in, nobody need ever see that it was ready.
    side.run("apply", "--filename", "-", input=pod("talker", f"{COUNTS}; sleep 3", side))
    side.run("wait", "--for=condition=Ready", "pod/talker", "--timeout=30s", hidden=True)
    side.run("logs", "--follow", "talker")
    with side.running("logs", "--follow", "--tail=1", "ticker") as ticks:
        side.lines(ticks, 4, "four ticks")
    side.run("delete", "pod", "talker", "--now")


def exec_codes(side: Side) -> None:
    for code in (0, 1, 3, 126, 137):
        side.run("exec", "shell", "--", "sh", "-c", f"echo out; echo err >&2; exit {code}")
    side.run("exec", "shell", "--", "no-such-program", hidden=True)
    side.run("exec", "nobody", "--", "true")
    side.run_hashed("exec", "shell", "--", "sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done")


def exec_stdin(side: Side) -> None:
    side.run("exec", "--stdin", "shell", "--", "sha256sum", input=BULK)
    side.run_hashed("exec", "--stdin", "shell", "--", "cat", input=BULK)
    side.run("exec", "--stdin", "shell", "--", "cat", input=b"")


def exec_terminal(side: Side) -> None:
    command = f"{SIZES}; echo TYPE; read line; echo got $line; exit 5"
    side.in_terminal("exec", "-it", "shell", "--", "sh", "-c", command, sizes=[(40, 100), (50, 120)], said=b"hello\n")


def attach(side: Side) -> None:
    with side.running("attach", "ticker") as ticks:
        side.lines(ticks, 3, "three ticks")


def run_in(side: Side) -> None:
    options = (
        "--image",
        side.image,
        "--image-pull-policy=IfNotPresent",
        "--restart=Never",
        "--quiet",
        "--rm",
        "--stdin",
    )
    side.run("run", "asked", *options, "--", "sh", "-c", "read x; echo got $x", input=b"this\n")


def cp(side: Side) -> None:
    there, back = side.folder / "there", side.folder / "back"
    there.write_bytes(BULK)
    side.run("cp", str(there), "shell:copied")
    side.run("exec", "shell", "--", "sha256sum", "copied")
    side.run("cp", "shell:copied", str(back))
    side.note("came back", hashlib.sha256(back.read_bytes()).hexdigest())
    tree = side.folder / "tree"
    (tree / "deep").mkdir(parents=True, exist_ok=True)
    (tree / "deep" / "file").write_text("content")
    side.run("cp", str(tree), "shell:tree")
    side.run("exec", "shell", "--", "cat", "tree/deep/file")
    side.run("cp", "shell:/nowhere", str(side.folder / "nothing"), hidden=True)  # of tar's last words some are lost


def port_forward(side: Side) -> None:
    side.run("exec", "--stdin", "shell", "--", "sh", "-c", "cat >/www/bulk; echo done", input=BULK)
    with side.running("port-forward", "pod/shell", ":8080") as forward:
        assert forward.stdout is not None
        first = forward.stdout.readline().decode()
        found = re.search(r"127\.0\.0\.1:(\d+) -> 8080", first)
        assert found, first
        for path in ("", "", "bulk"):
            side.fetch(f"http://127.0.0.1:{found[1]}/{path}")


def proxy(side: Side) -> None:
    with side.running("proxy", "--port=0") as served:
        assert served.stdout is not None
        found = re.search(r":(\d+)\s*$", served.stdout.readline().decode())
        assert found
        side.fetch(f"http://127.0.0.1:{found[1]}/version")
        side.fetch(f"http://127.0.0.1:{found[1]}/apis/apps/v1")


def pod_proxy(side: Side) -> None:
    side.run("get", "--raw", f"/api/v1/namespaces/{side.namespace}/pods/shell:8080/proxy/")


def debug(side: Side) -> None:
    # Whether kubectl attaches before the container is over is a matter of luck, and so is what it prints.
    side.run("debug", "shell", "--container=look", f"--image={side.image}", "--stdin", "--quiet", "--", "sh", "-c", "read x; echo saw $x",
             input=b"it\n", hidden=True)  # fmt: skip
    side.run("get", "pod", "shell", "--output=jsonpath={.spec.ephemeralContainers[*].name}")


def drain(side: Side) -> None:
    side.run(
        "apply", "--filename", "-", input=pod("victim", TICKS, side).replace("app: victim", f"app: {side.namespace}")
    )
    (node, *_) = side.kubectl.run("get", "nodes", "--output=name").split()
    side.run("drain", node, f"--pod-selector=app={side.namespace}", "--force", "--dry-run=server")
    side.run("delete", "pod", "victim", "--now")


def auth(side: Side) -> None:
    side.run("auth", "can-i", "create", "pods")
    side.run("auth", "can-i", "create", "pods/exec", "--as=nobody")
    side.run("auth", "can-i", "--list")


def top(side: Side) -> None:
    side.run("top", "pods")
    side.run("top", "nodes")


def explain(side: Side) -> None:
    side.run("explain", "configmap")
    side.run("explain", "pod.spec.containers.resources")
    side.run("explain", "nonsense")


def discovery(side: Side) -> None:
    side.run("api-resources")
    side.run("api-versions")
    side.run("version", "--output=json", hidden=True)


def raw(side: Side) -> None:
    side.run("get", "--raw", "/version")
    side.run("get", "--raw", f"/api/v1/namespaces/{side.namespace}/configmaps/nothing")
    side.run("get", "--raw", "/nowhere")


ROWS = (
    Row("get", get),
    Row("get -w", get_watch),
    Row("describe", describe),
    Row("wait", wait),
    Row("rollout", rollout),
    Row("scale", scale),
    Row("apply", apply),
    Row("apply --server-side", apply_server_side),
    Row("apply -k", apply_kustomized),
    Row("diff", diff),
    Row("create", create),
    Row("delete", delete),
    Row("patch", patch),
    Row("logs", logs),
    Row("logs -f", logs_follow),
    Row("exec", exec_codes),
    Row("exec -i", exec_stdin),
    Row("exec -it", exec_terminal),
    Row("attach", attach),
    Row("run -i --rm", run_in, practice=False),
    Row("cp", cp),
    Row("port-forward", port_forward, practice=False),
    Row("proxy", proxy),
    Row("pods/proxy", pod_proxy, practice=False),
    Row("debug", debug),
    Row("drain", drain, practice=False),
    Row("auth", auth),
    Row("top", top),
    Row("explain", explain),
    Row("discovery", discovery),
    Row("get --raw", raw),
    Row("further", further, practice=False),
)
