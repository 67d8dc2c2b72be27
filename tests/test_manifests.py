"""Manifests: loaded, rendered and shown as they are, and each mistake found, named and explained."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifest_samples import DEPLOYMENT, GOOD, HPA, SECRET, SERVICE, found, skip_without_kubectl
from workshop_lib import manifests
from workshop_lib.manifests import Document, ManifestError, load, problems, render, show, table


def document(text: str) -> Document:
    """A document from YAML text."""
    return manifests.parse(text, "file.yaml")[0]


# ---- load


def test_documents_know_where_they_stand(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.yml").write_text("# why\nkind: A\nmetadata: {name: one}\n---\n---\nkind: B\n")
    (tmp_path / "a.yaml").write_text("kind: C\n")
    (tmp_path / "notes.txt").write_text("kind: D\n")
    read = load(tmp_path)
    assert [(item.kind, item.name, item.number, item.line) for item in read] == [
        ("C", "", 1, 1), ("A", "one", 1, 2), ("B", "", 2, 6),
    ]  # fmt: skip
    assert read[0].file == str(tmp_path / "a.yaml")
    assert read[1].get("metadata.name") == "one" and read[1].get("metadata.name.first") is None


def test_a_path_starts_at_the_checkout() -> None:
    (secret,) = load("3-serving/manifests/secrets/connection.yaml")
    assert secret.file == "3-serving/manifests/secrets/connection.yaml"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: A\nspec: [1\n", "line 3: expected"),
        ("kind: A\nspec: {a: 1}\nkind: B\n", "line 3: the key 'kind' is there twice"),
        ("kind: A\nname: {{ name }}\n", "line 2: a key that is no text: is a {{ template }} without quotes?"),
        ("kind: A\nwhen: !!python/object:os.system x\n", "line 2: could not determine a constructor"),
        ("- kind: A\n", "line 1: not a mapping but"),
    ],
)
def test_broken_yaml_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(ManifestError) as caught:
        load(tmp_path / "broken.yaml")
    assert f"broken.yaml, {message}" in str(caught.value)


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(ManifestError, match="there is no YAML file"):
            load(path)


def test_values_are_read_as_kubectl_reads_them() -> None:
    text = "a: 12:30\nb: 2024-05-01\nc: 1e3\nd: 0x10\ne: yes\nf: 1.5\ng: 8888\nh: 1:2:3\ni: .5\nj: 08\nk: ~\nl: 010"
    assert document(text).body == {
        "a": "12:30", "b": "2024-05-01", "c": 1000.0, "d": 16, "e": True, "f": 1.5, "g": 8888, "h": "1:2:3", "i": 0.5,
        "j": 8.0, "k": None, "l": 8,
    }  # fmt: skip


def test_anchors_and_merges_work() -> None:
    assert document("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n").body["b"] == {"x": 1, "y": 3}


# ---- render


def test_rendering_gives_what_a_cluster_would_get(tmp_path: Path) -> None:
    skip_without_kubectl()
    (tmp_path / "kustomization.yaml").write_text("namePrefix: my-\nresources: [map.yaml]\n")
    (tmp_path / "map.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map}\n")
    (rendered,) = render(tmp_path)
    assert (rendered.kind, rendered.name) == ("ConfigMap", "my-map")
    assert rendered.file.endswith("(rendered)")


def test_a_folder_that_does_not_build_is_told_in_the_tool_s_words(tmp_path: Path) -> None:
    skip_without_kubectl()
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]\n")
    with pytest.raises(ManifestError, match=r"does not build: .*missing\.yaml"):
        render(tmp_path)


def test_without_the_tools_the_message_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ManifestError, match="Neither kubectl nor oc is installed"):
        render(tmp_path)


# ---- table and show

TWO = """\
kind: A
metadata: {name: one}
spec: {list: [{x: 1}, {y: [2]}], probe: {httpGet: {}}}
---
kind: B
metadata: {name: two}
"""


def test_the_table_lists_kind_name_and_file() -> None:
    listed = table(manifests.parse(TWO, "f.yaml"))
    assert listed.to_dict("list") == {"kind": ["A", "B"], "name": ["one", "two"], "file": ["f.yaml", "f.yaml"]}
    assert list(table([]).columns) == ["kind", "name", "file"]


def test_a_document_is_shown_as_yaml() -> None:
    documents = manifests.parse(TWO, "f.yaml")
    shown = show("A", "one", documents)
    assert yaml.safe_load(str(shown.data)) == documents[0].body
    assert str(shown.data).startswith("kind: A\n")  # in the order of the file
    assert yaml.safe_load(str(show("A", "one", documents, "spec.list.1").data)) == {"y": [2]}
    assert str(show("A", "one", documents, "spec.probe").data) == "httpGet: {}\n"  # no address to fetch


def test_what_cannot_be_shown_is_named() -> None:
    documents = manifests.parse(TWO, "f.yaml")
    with pytest.raises(ManifestError, match=r"There is no A two here\. There are: A/one, B/two\."):
        show("A", "two", documents)
    for field in ("spec.nothing", "spec.list.7", "spec.list.x", "kind.deeper"):
        with pytest.raises(ManifestError, match=f"A one has no field {field}"):
            show("A", "one", documents, field)


# ---- problems


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_good_documents_have_no_problems(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "old", "new", "expected"),
    [
        (DEPLOYMENT, "selector:", "selectors:", "spec: 'selector' is a required property. See `oc explain deployment`"),
        (DEPLOYMENT, "containerPort: 80", "containerPort: http", "containers.0.ports.0.containerPort: 'http' is not"),
        (DEPLOYMENT, "selector:", "replica: 1\n  selector:", "'replica' was unexpected"),
        (DEPLOYMENT, "kind: Deployment", "kind: Deploiment", "apiVersion: Kubernetes 1.32 knows no apps/v1 Deploiment"),
        (DEPLOYMENT, "apps/v1", "extensions/v1beta1", "apiVersion: Kubernetes 1.32 knows no extensions/v1beta1"),
        (HPA, "autoscaling/v2", "autoscaling/v2beta2", "Kubernetes 1.32 knows no autoscaling/v2beta2"),
        (DEPLOYMENT, "name: api\n  annotations", "annotations", "metadata.name: the object has no name"),
        (DEPLOYMENT, "kind: Deployment", "", "kind: kind or apiVersion is missing"),
        (SERVICE, "apiVersion: v1", "", "kind: kind or apiVersion is missing"),
    ],
)
def test_core_kinds_are_checked_strictly(text: str, old: str, new: str, expected: str) -> None:
    assert old in text
    assert expected in "\n".join(found(text.replace(old, new, 1)))


@pytest.mark.parametrize(
    "group", ["kueue.x-k8s.io/v1beta1", "gateway.networking.k8s.io/v1", "kustomize.config.k8s.io/v1beta1", "ray.io/v1"]
)
def test_kinds_of_operators_have_no_schema_here(group: str) -> None:
    assert found(f"apiVersion: {group}\nkind: Thing\nmetadata: {{name: thing}}\n") == []


@pytest.mark.parametrize("group", ["v1", "batch/v1", "rbac.authorization.k8s.io/v1", "networking.k8s.io/v1"])
def test_kinds_of_kubernetes_are_known(group: str) -> None:
    assert "knows no" in found(f"apiVersion: {group}\nkind: Thing\nmetadata: {{name: thing}}\n")[0]
    role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: role}\nrules: [{verbs: [get]}]\n"
    assert found(role) == []


def test_a_mistake_is_told_once() -> None:
    (said,) = found(DEPLOYMENT.replace('{note: "1"}', "{note: 1}"))
    assert said.endswith('is not text. Put it in quotes: "1".')


def test_all_mistakes_of_a_document_are_told_at_once() -> None:
    text = DEPLOYMENT.replace("selector:", "selectors:").replace("containerPort: 80", "containerPort: http")
    assert len(found(text)) >= 3


def test_a_problem_says_where_what_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "api.yaml").write_text(SECRET + "---" + DEPLOYMENT.replace("api:1.0", "api"))
    (problem,) = problems(load(tmp_path))
    assert str(problem) == (
        f"{tmp_path}/api.yaml, line 7 (document 2), Deployment api, spec.template.spec.containers.0.image:"
        " example/api names no version. Give it a tag, or better a digest."
    )


def test_checking_changes_nothing() -> None:
    document_ = document(DEPLOYMENT)
    before: dict[str, Any] = copy.deepcopy(document_.body)
    problems([document_])
    assert document_.body == before
