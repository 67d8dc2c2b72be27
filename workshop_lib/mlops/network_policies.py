"""Who reaches whom: the NetworkPolicies of the YAML files, evaluated as the cluster would.

    traffic(load_policies())                    # a row per source, a column per target: True where it is reached
    allowed(policies, source, target, 8300)

The rules (Kubernetes documentation, "Network Policies"): a pod that no policy selects for a direction takes part in
everything in that direction. One that is selected takes part only in what some policy allows. Policies add up, none
takes away. Traffic needs both sides: the source may send, and the target may receive.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workshop_lib.manifest_files import load
from workshop_lib.manifest_rules import Document
from workshop_lib.mlops.roles import NAMESPACE, POLICIES

if TYPE_CHECKING:
    import pandas as pd

BEFORE = ("3-serving/manifests/base/network-policies.yaml", "4-langchain/manifests/base/network-policy.yaml")
"""What modules 3 and 4 brought: who may call their pods."""
_APP = "app.kubernetes.io/name"
_MODEL = "serving.kserve.io/inferenceservice"
_SPACE = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Peer:
    """Something that sends or receives: a kind of pod, or an address outside of the cluster."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the pod."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """On which it listens, by their names in the pod."""
    namespace: Mapping[str, str] | None = field(default_factory=lambda: {_SPACE: NAMESPACE})
    """Labels of its namespace; None for an address outside."""
    address: str = ""
    """Of something outside."""


PEERS = (
    Peer("router", namespace={_SPACE: "openshift-ingress", "network.openshift.io/policy-group": "ingress"}),
    Peer("prometheus", namespace={_SPACE: "openshift-user-workload-monitoring"}),
    Peer("dashboard", {_APP: "dashboard"}, {"http": 7860}),
    Peer("business-api", {_APP: "business-api"}, {"http": 8300}),
    Peer("forecaster", {_MODEL: "sales-forecaster"}, {"http": 8888}),
    Peer("llm", {_MODEL: "llm"}, {"http": 8080}),
    Peer("monitor", {_APP: "monitor"}, {"http": 8400}),
    Peer("drift job", {_APP: "drift", "batch.kubernetes.io/job-name": "drift-1"}),
    Peer("pipeline", {"tekton.dev/pipelineRun": "release-1"}),
    Peer("mlflow", {_APP: "mlflow"}, {"http": 5000}),
    Peer("valkey", {_APP: "valkey"}, {"redis": 6379}),
    Peer("postgresql", {_APP: "postgresql"}, {"sql": 5432}),
    Peer("stranger here", {_APP: "debug"}),
    Peer("stranger elsewhere", {_APP: "debug"}, namespace={_SPACE: "somebody-else"}),
    Peer("dns", {}, {"dns": 5353}, {_SPACE: "openshift-dns"}),
    Peer("storage", {}, {"https": 443}, None, "192.0.2.10"),
    Peer("internet", {}, {"https": 443}, None, "203.0.113.7"),
)
"""The pods of the course and their neighbours, with the labels of their manifests."""


def load_policies(*files: str) -> list[Document]:
    """The NetworkPolicies of some files.

    Args:
        files: relative to the checkout; :data:`BEFORE` and ``security_policies.yaml`` by default.
    """
    documents = [document for file in files or (*BEFORE, str(POLICIES)) for document in load(file)]
    return [document for document in documents if document.kind == "NetworkPolicy"]


def allowed(policies: Sequence[Document], source: Peer, target: Peer, port: int) -> bool:
    """Whether a packet from one peer reaches a port of another (TCP; for DNS the same ports are open for UDP)."""
    return _may(policies, "Egress", source, target, port, target) and _may(
        policies, "Ingress", target, source, port, target
    )


def traffic(policies: Sequence[Document], peers: Sequence[Peer] = PEERS) -> pd.DataFrame:
    """Who reaches whom.

    Returns:
        A row per source, a column per target that listens: True where all its ports are reached, False where one is
        not, and None for a peer and itself.
    """
    import pandas as pd

    def reached(source: Peer, target: Peer) -> bool | None:
        if source is target:
            return None
        return all(allowed(policies, source, target, port) for port in target.ports.values())

    sources = [peer for peer in peers if peer.namespace is not None]
    targets = [peer for peer in peers if peer.ports]
    rows = [[reached(source, target) for target in targets] for source in sources]
    names, columns = ([peer.name for peer in side] for side in (sources, targets))
    return pd.DataFrame(rows, index=names, columns=columns, dtype=object)


def _may(policies: Sequence[Document], direction: str, own: Peer, other: Peer, port: int, listener: Peer) -> bool:
    """Whether a peer may send (``Egress``) or receive (``Ingress``)."""
    chosen = [one for one in policies if _selects(one, own) and direction in _types(one)]
    return not chosen or any(
        _peer_fits(rule.get("from" if direction == "Ingress" else "to"), other)
        and _port_fits(rule.get("ports"), port, listener)
        for policy in chosen
        for rule in policy.get(f"spec.{direction.lower()}") or ()
    )


def _selects(policy: Document, peer: Peer) -> bool:
    # A file without a namespace is applied to the shop's.
    place = policy.get("metadata.namespace") or NAMESPACE
    return (peer.namespace or {}).get(_SPACE) == place and _fits(policy.get("spec.podSelector"), peer.labels)


def _types(policy: Document) -> Sequence[str]:
    default = ["Ingress", "Egress"] if policy.get("spec.egress") else ["Ingress"]
    return policy.get("spec.policyTypes") or default


def _peer_fits(peers: Sequence[Mapping[str, Any]] | None, other: Peer) -> bool:
    return not peers or any(_one_fits(peer, other) for peer in peers)


def _one_fits(peer: Mapping[str, Any], other: Peer) -> bool:
    if "ipBlock" in peer:
        if not other.address:
            return False  # which address a pod has is nobody's promise
        block, address = peer["ipBlock"], ipaddress.ip_address(other.address)
        inside = address in ipaddress.ip_network(block["cidr"])
        return inside and not any(address in ipaddress.ip_network(part) for part in block.get("except", ()))
    if other.namespace is None:
        return False
    here = other.namespace.get(_SPACE) == NAMESPACE
    space = _fits(peer["namespaceSelector"], other.namespace) if "namespaceSelector" in peer else here
    return space and _fits(peer.get("podSelector") or {}, other.labels)


def _port_fits(ports: Sequence[Mapping[str, Any]] | None, port: int, listener: Peer) -> bool:
    """Whether a rule's ports hold one; a name is that of a port of the pod which listens."""
    return not ports or any(
        "port" not in one
        or (listener.ports.get(one["port"]) == port if isinstance(one["port"], str)
            else one["port"] <= port <= one.get("endPort", one["port"]))
        for one in ports
    )  # fmt: skip


def _fits(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy a selector; an empty one is satisfied by all."""
    wanted = selector.get("matchLabels") or {}
    return wanted.items() <= labels.items() and all(_holds(one, labels) for one in selector.get("matchExpressions", ()))


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator = expression["key"], expression["operator"]
    if operator in ("Exists", "DoesNotExist"):
        return (key in labels) == (operator == "Exists")
    return (labels.get(key) in expression["values"]) == (operator == "In")
