"""The policies' file: valid, and doing what its comments say, from who reaches whom to which image is let in."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization

from workshop_lib import manifests
from workshop_lib.manifest_rules import Document
from workshop_lib.mlops import network_policies, policies, roles
from workshop_lib.mlops.network_policies import BEFORE, PEERS, Peer, allowed, load_policies, traffic
from workshop_lib.serving import api_keys
from workshop_lib.settings import PREFIX, ROOT, Settings

VALIDATOR = ROOT.parent / "shared" / "crds" / "validate_manifests.py"
DOCUMENTS = {(one.kind, one.get("metadata.namespace") or "", one.name): one for one in roles.policies()}
PEER = {peer.name: peer for peer in PEERS}


def test_nothing_is_wrong_with_the_file() -> None:
    assert [str(problem) for problem in manifests.problems(manifests.load(roles.POLICIES))] == []
    assert len(DOCUMENTS) == len(roles.policies()), "two documents of one kind and name"


@pytest.mark.skipif(not VALIDATOR.is_file(), reason="the schemas of custom resources are not beside the checkout")
def test_custom_resources_fit_their_schemas() -> None:
    done = subprocess.run([sys.executable, VALIDATOR, roles.POLICIES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# ---- who reaches whom

REACHES = {
    "router": {"dashboard", "business-api"},
    "prometheus": {"dashboard", "business-api", "forecaster", "llm", "monitor"},
    "dashboard": {"business-api", "forecaster", "llm", "mlflow"},
    "business-api": {"forecaster", "llm", "mlflow", "valkey", "postgresql"},
    "forecaster": {"storage"},
    "llm": {"storage"},
    "monitor": {"dashboard", "business-api", "forecaster", "llm", "mlflow"},
    "drift job": {"mlflow"},
    "pipeline": {"mlflow", "storage", "internet"},
    "mlflow": {"postgresql", "storage"},
    "valkey": set(), "postgresql": set(), "stranger here": set(), "stranger elsewhere": set(), "dns": set(),
}  # fmt: skip
"""Besides DNS, and besides what pods of other namespaces reach outside of ours."""


def reached(table: Any, source: str) -> set[str]:
    return {target for target in table.columns if table.loc[source, target] is True}


def test_every_pod_reaches_what_it_needs_and_nothing_else() -> None:
    table = traffic(load_policies())
    ours = [name for name, peer in PEER.items() if peer.namespace == {"kubernetes.io/metadata.name": roles.NAMESPACE}]
    for source in table.index:
        found = reached(table, source) - {"dns"}
        assert (found if source in ours else found - {"storage", "internet"}) == REACHES[source], source
    assert all(table.loc[source, "dns"] is True for source in ours)


def test_before_nearly_everything_was_open() -> None:
    before, after = traffic(load_policies(*BEFORE)), traffic(load_policies())
    assert before.eq(True).sum().sum() > 2 * after.eq(True).sum().sum()
    assert {"postgresql", "internet"} <= reached(before, "stranger here")


def test_a_pod_that_nobody_thought_of_is_closed_by_default_deny_alone() -> None:
    new = Peer("new", {"app": "new"}, {"http": 8080})
    everything = load_policies()
    without = [one for one in everything if one.name != "default-deny"]
    assert allowed(without, PEER["stranger elsewhere"], new, 8080)
    assert not any(allowed(everything, peer, new, 8080) for peer in PEERS)


def test_the_peers_wear_the_labels_of_the_manifests() -> None:
    worn: list[dict[str, str]] = []
    for document in (document for file in policies.WORKLOADS for document in manifests.load(file)):
        for place in ("spec.template.metadata.labels", "spec.jobTemplate.spec.template.metadata.labels"):
            worn += [document.get(place)] if document.get(place) else []
    for name in ("dashboard", "business-api", "monitor", "drift job"):
        wanted = {key: value for key, value in PEER[name].labels.items() if "batch.kubernetes.io" not in key}
        assert wanted in worn, name
    ports = {container_port["containerPort"] for pod in policies.pods().values() for container in pod["containers"]
             for container_port in container.get("ports", ())}  # fmt: skip
    served = ("dashboard", "business-api", "forecaster", "llm", "monitor")
    assert {port for name in served for port in PEER[name].ports.values()} <= ports


def policy(spec: str) -> list[Document]:
    return manifests.parse(f"kind: NetworkPolicy\nmetadata: {{name: p}}\nspec: {spec}", "f")


@pytest.mark.parametrize(
    ("spec", "open_"),
    [
        ("{podSelector: {}, policyTypes: [Ingress]}", False),
        ("{podSelector: {}}", False),
        ("{podSelector: {}, policyTypes: [Egress]}", False),  # the dashboard may no longer send
        ("{podSelector: {matchLabels: {app.kubernetes.io/name: other}}, policyTypes: [Ingress]}", True),
        ("{podSelector: {}, ingress: [{}]}", True),
        ("{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}", True),
        ("{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}", True),
        ("{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {a: b}}, podSelector: {}}]}]}", False),
        ("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}", False),
        ("{podSelector: {}, ingress: [{ports: [{port: http}]}]}", True),
        ("{podSelector: {}, ingress: [{ports: [{port: metrics}]}]}", False),
        ("{podSelector: {}, ingress: [{ports: [{port: 8000, endPort: 8400}]}]}", True),
        ("{podSelector: {}, ingress: [{ports: [{port: 8301}]}]}", False),
        ("{podSelector: {}, ingress: [{ports: [{protocol: TCP}]}]}", True),
        ("{podSelector: {matchExpressions: [{key: app.kubernetes.io/name, operator: NotIn, values: [business-api]}]},"
         " policyTypes: [Ingress]}", True),
        ("{podSelector: {matchExpressions: [{key: app.kubernetes.io/name, operator: Exists}]}}", False),
        ("{podSelector: {matchExpressions: [{key: app.kubernetes.io/name, operator: DoesNotExist}]}}", True),
    ],
)  # fmt: skip
def test_the_rules_of_network_policies(spec: str, open_: bool) -> None:
    assert allowed(policy(spec), PEER["dashboard"], PEER["business-api"], 8300) is open_


def test_policies_add_up_and_addresses_count_outside_only() -> None:
    closed = policy("{podSelector: {}, policyTypes: [Egress]}")
    block = (
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 203.0.113.0/24, except: [%s]}}]}]}"
    )
    internet = PEER["internet"]
    assert not allowed(closed, PEER["llm"], internet, 443)
    assert allowed([*closed, *policy(block % "")], PEER["llm"], internet, 443)
    assert not allowed([*closed, *policy(block % "203.0.113.0/28")], PEER["llm"], internet, 443)
    assert allowed(closed, Peer("other", {}, {}, {"kubernetes.io/metadata.name": "x"}), internet, 443)
    assert network_policies.load_policies("3-serving/manifests/base/network-policies.yaml")


# ---- what a pod may be


def test_all_pods_of_the_course_may_start_in_a_restricted_namespace() -> None:
    found = policies.pods()
    assert len(found) >= 8
    assert {name: policies.broken_rules(pod) for name, pod in found.items()} == {name: [] for name in found}
    for name in (roles.NAMESPACE, roles.STAGING):
        labels = DOCUMENTS["Namespace", "", name].get("metadata.labels")
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


SECURE = {
    "allowPrivilegeEscalation": False, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"privileged": True}, "privileged"),
        ({"allowPrivilegeEscalation": None}, "allowPrivilegeEscalation"),
        ({"runAsNonRoot": None}, "root"),
        ({"runAsUser": 0}, "root"),
        ({"capabilities": {}}, "capabilities"),
        ({"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}, "capabilities"),
        ({"seccompProfile": {"type": "Unconfined"}}, "seccomp"),
    ],
)
def test_restricted_refuses(change: dict[str, Any], said: str) -> None:
    def pod(security: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"containers": [{"name": "c", "securityContext": security}], **more}

    assert policies.broken_rules(pod(SECURE)) == []
    (problem,) = policies.broken_rules(pod(SECURE | change))
    assert said in problem
    assert len(policies.broken_rules(pod({}))) == 4
    assert policies.broken_rules(pod({}, securityContext=SECURE)) == []
    assert policies.broken_rules(pod(SECURE, hostNetwork=True)) == ["hostNetwork is on"]
    assert "hostPath" in policies.broken_rules(pod(SECURE, volumes=[{"name": "v", "hostPath": {}}]))[0]
    port = {"containers": [{"name": "c", "securityContext": SECURE, "ports": [{"hostPort": 80}]}]}
    assert policies.broken_rules(port) == ["c takes a port of the node"]


# ---- what is let in


@pytest.mark.parametrize(
    ("image", "in_"),
    [
        (f"registry.example.com/shop/workshop-serving@sha256:{'0a' * 32}", True),
        (f"registry.redhat.io/rhoai/odh-openvino-model-server-rhel9@sha256:{'0a' * 32}", True),
        ("registry.example.com/shop/workshop-serving:0.1.0", False),
        (f"registry.example.com/shop/workshop-serving:0.1.0@sha256:{'0a' * 32}", False),
        (f"registry.example.com/shop/workshop-serving@sha256:{'0a' * 31}", False),
        (f"registry.example.com.evil.example/shop/x@sha256:{'0a' * 32}", False),
        (f"registryxexample.com/shop/x@sha256:{'0a' * 32}", False),
        (f"evil.example/registry.example.com/shop/x@sha256:{'0a' * 32}", False),
        (f"registry.example.com/other/x@sha256:{'0a' * 32}", False),
        (f"registry.example.com/shop/x@sha256:{'0a' * 32}\nx", False),
    ],
)
def test_images_come_by_digest_from_trusted_places(image: str, in_: bool) -> None:
    assert policies.trusted_image(image) is in_


def test_only_the_pipeline_says_which_model_is_served() -> None:
    accounts = [name.split(":") for name in policies.deployers()]
    assert [parts[:2] for parts in accounts] == [["system", "serviceaccount"]] * 2
    assert accounts[0][2:] == [roles.NAMESPACE, "pipeline"] and roles.can("pipeline", "create", "inferenceservices")
    for kind in ("images-by-digest", "model-by-pipeline", "pipeline-as-reviewed"):
        binding = DOCUMENTS["ValidatingAdmissionPolicyBinding", "", kind]
        assert binding.get("spec.policyName") == kind and "Deny" in binding.get("spec.validationActions")
        assert DOCUMENTS["ValidatingAdmissionPolicy", "", kind].get("spec.failurePolicy") == "Fail"


def test_the_key_for_images_is_a_public_one_of_the_right_kind() -> None:
    data = DOCUMENTS["ClusterImagePolicy", "", "supermarket"].get("spec.policy.rootOfTrust.publicKey.keyData")
    pem = base64.b64decode(data, validate=True)
    assert b"PUBLIC KEY" in pem and b"PRIVATE" not in pem
    assert getattr(serialization.load_pem_public_key(pem), "curve").name == "secp256r1"  # noqa: B009 - typed as any key


# ---- secrets and what is written down


def test_no_secret_stands_in_the_file() -> None:
    assert not [key for key in DOCUMENTS if key[0] == "Secret"]
    text = roles.POLICIES.read_text(encoding="utf-8")
    assert "stringData" not in text and "PRIVATE KEY" not in text
    stores = {name for kind, _, name in DOCUMENTS if kind == "SecretStore"}
    external = [one for key, one in DOCUMENTS.items() if key[0] == "ExternalSecret"]
    assert external and {one.get("spec.secretStoreRef.name") for one in external} <= stores
    account = DOCUMENTS["SecretStore", roles.NAMESPACE, "vault"].get(
        "spec.provider.vault.auth.kubernetes.serviceAccountRef"
    )
    assert ("ServiceAccount", roles.NAMESPACE, account["name"]) in DOCUMENTS


def test_the_variables_are_settings_and_the_key_file_is_one_that_the_api_reads(tmp_path: Path) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(r"\bWORKSHOP_[A-Z_]+", roles.POLICIES.read_text(encoding="utf-8")))
    assert len(named) >= 4 and named <= known
    keys = DOCUMENTS["ExternalSecret", roles.NAMESPACE, "business-api-keys"].get("spec.data")[0]["secretKey"]
    file = tmp_path / keys
    api_keys.write_keys(file, api_keys.KeysFile(roles={"app": api_keys.Role(paths=("*",))}))
    assert api_keys.KeyRing(file).find(b"x") is None


def test_changes_are_written_down_with_their_contents() -> None:
    groups = policies.audited_groups()
    assert {f"{role}s" for role in set(roles.PEOPLE.values()) - {"auditor"}} <= groups.keys()
    assert set(groups.values()) <= {"WriteRequestBodies", "AllRequestBodies"}
    patch = yaml.safe_load(DOCUMENTS["ConfigMap", roles.NAMESPACE, "audit-policy"].body["data"]["apiserver.yaml"])
    assert patch["spec"]["audit"]["profile"] in ("Default", "WriteRequestBodies", "AllRequestBodies")
