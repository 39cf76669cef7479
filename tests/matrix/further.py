"""Commands that are one request or two each, with nothing to wait for and nothing that lasts: a table is enough."""

from __future__ import annotations

from typing import NamedTuple

from tests.matrix.sides import Side


class Command(NamedTuple):
    """Words as they are typed, split at blanks, and what is on standard input; NAMESPACE stands for the side's own in both."""

    words: str
    input: str = ""


CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: further{labels}}}\ndata: {{key: {value}}}\n"
ROLE = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: further, namespace: NAMESPACE}
rules: [{apiGroups: [""], resources: [pods], verbs: [get, list]}]
"""

MAKING = (
    Command("create serviceaccount further"),
    Command("create token further --duration=10m --output=jsonpath={.kind}"),
    Command("create role further --verb=get --resource=pods"),
    Command("create rolebinding further --role=further --serviceaccount=NAMESPACE:further"),
    Command("auth reconcile --filename=-", ROLE),
    Command("create secret generic further --from-literal=p=q"),
    Command("create secret tls further --cert=/nowhere --key=/nowhere"),
    Command("create deployment further --image=nobody/has:this --replicas=0"),
    Command("create cronjob further --image=nobody/has:this --schedule=0,0,1,1,* -- true"),
    Command("create ingress further --rule=a/=further:80"),
    Command("create quota further --hard=pods=100"),
    Command("create poddisruptionbudget further --selector=app=nobody --min-available=0"),
    Command("create priorityclass NAMESPACE --value=1"),
    Command("expose pod shell --port=80 --target-port=8080 --name=further"),
    Command("autoscale deployment further --max=3"),
)
CHANGING = (
    Command("set image deployment/further has=nobody/has:that"),
    Command("set env deployment/further A=b"),
    Command("set resources deployment/further --limits=cpu=100m"),
    Command("set serviceaccount deployment/further further"),
    Command("set selector service/further app=shell"),
    Command("rollout history deployment/further --revision=1"),
    Command("rollout undo deployment/further"),
    Command("label pod shell further=one"),
    Command("label pod shell further=two"),
    Command("label pod shell further=two --overwrite"),
    Command("annotate pod shell further=one"),
    Command("apply --filename=-", CONFIG_MAP.format(labels=", labels: {of: further}", value="one")),
    Command("apply view-last-applied configmap/further"),
    Command(
        "apply --prune --selector=of=further --filename=-",
        CONFIG_MAP.format(labels=", labels: {of: further}", value="two"),
    ),
    Command("replace --filename=-", CONFIG_MAP.format(labels="", value="three")),
    Command("replace --force --filename=-", CONFIG_MAP.format(labels="", value="four")),
    Command('patch configmap further --type=json --patch=[{"op":"add","path":"/data/more","value":"1"}]'),
    Command("patch deployment further --subresource=scale --type=merge --patch={}"),
    Command("taint node --all NAMESPACE=x:PreferNoSchedule"),
    Command("taint node --all NAMESPACE-"),
)
LOOKING = (
    Command("get all --output=name --selector=app=further"),
    Command("get pods,services --output=name --selector=app=shell"),
    Command("get configmap further --output=go-template={{.data.key}}"),
    Command("get pod shell --output=custom-columns=NAME:.metadata.name,LABELS:.metadata.labels"),
    Command(
        "get configmaps --all-namespaces --field-selector=metadata.name=kube-root-ca.crt,metadata.namespace=NAMESPACE"
    ),
    Command("get events --field-selector=reason=Nothing"),
    Command("events --for=configmap/further"),
    Command("describe serviceaccount further"),
    Command("describe quota further"),
    Command("logs --selector=app=shell --all-containers --prefix --tail=1"),
    Command("logs shell --container=nobody"),
    Command("auth whoami"),
    Command("auth can-i --list --no-headers"),
    Command("api-versions"),
    Command("get --raw /readyz?verbose"),
    Command("get --raw /api/v1/namespaces/NAMESPACE?a=%20b"),
    Command("get pods --namespace=nobody-has-this"),
    Command("get pods --context=nobody-has-this"),
    Command("create --filename=-", "apiVersion: v1\nkind: Bogus\n"),
    Command("create --filename=-", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: UPPER}\n"),
    Command("apply --filename=-", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}\n"),
)
UNMAKING = (
    Command("delete configmap,secret,quota further"),
    Command("delete deployment further --cascade=orphan"),
    Command("delete replicasets --selector=app=further"),
    Command("delete service,ingress,cronjob,role,rolebinding,poddisruptionbudget,horizontalpodautoscaler further"),
    Command("delete serviceaccount further --dry-run=server"),
    Command("delete serviceaccount further"),
    Command("delete priorityclass NAMESPACE"),
)


def further(side: Side) -> None:
    """All of them, in order."""
    for words, said in (*MAKING, *CHANGING, *LOOKING, *UNMAKING):
        typed = words.replace("NAMESPACE", side.namespace).split()
        side.run(
            *(word.replace("0,0,1,1,*", "0 0 1 1 *") for word in typed), input=said.replace("NAMESPACE", side.namespace)
        )
