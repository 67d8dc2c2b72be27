"""The cluster's YAML: load it, render it, check it, show it.

    documents = render("3-serving/manifests/overlays/dev")
    problems(documents)   # what a cluster would refuse, or accept and never do
    table(documents)
    show("InferenceService", "sales-forecaster", documents)

Core kinds are checked strictly against the Kubernetes schemas. Mistakes that every schema lets through have
rules of their own in :mod:`workshop_lib.manifest_rules`. What needs a cluster (admission webhooks, whether
an image exists) is not checked.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pandas as pd
import yaml
from IPython.display import Code
from referencing import Registry, Resource

from workshop_lib.manifest_files import ManifestError, load, parse, short_name
from workshop_lib.manifest_rules import RULES, SET_RULES, Document, Problem
from workshop_lib.settings import ROOT

KUBERNETES = "1.32"
"""Whose schemas count: OpenShift 4.N carries Kubernetes 1.(N+13)."""

__all__ = ["KUBERNETES", "Document", "ManifestError", "Problem", "load", "parse", "problems", "render", "show", "table"]


def render(overlay: Path | str) -> list[Document]:
    """What ``oc apply -k`` would send to the cluster: a kustomize folder, built by ``kubectl kustomize``.

    Args:
        overlay: folder with a ``kustomization.yaml``, absolute or relative to the checkout.

    Raises:
        ManifestError: without kubectl or oc, or when the folder does not build, with kustomize's words.
    """
    program = shutil.which("kubectl") or shutil.which("oc")
    if program is None:
        raise ManifestError("Neither kubectl nor oc is installed; one of them renders kustomize folders.")
    folder = ROOT / overlay
    done = subprocess.run([program, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ManifestError(f"{short_name(folder)} does not build: {done.stderr.strip()}")
    return parse(done.stdout, f"{short_name(folder)} (rendered)")


def problems(documents: Iterable[Document]) -> list[Problem]:
    """Everything wrong with the documents, in their order; an empty list when nothing was found.

    Custom resources are looked at by the rules only: their schemas belong to the cluster's operators.
    """
    documents = list(documents)
    found = []
    for document in documents:
        own = [Problem(document, *finding) for rule in RULES for finding in rule(document)]
        # A rule explains what a schema can only name, so the schema is silent about the same field.
        said = {problem.field for problem in own}
        found += own + [problem for problem in _schema_problems(document) if problem.field not in said]
    return found + [problem for rule in SET_RULES for problem in rule(documents)]


def table(documents: Iterable[Document]) -> pd.DataFrame:
    """The documents as a table: kind, name, file."""
    rows = [(document.kind, document.name, document.file) for document in documents]
    return pd.DataFrame(rows, columns=["kind", "name", "file"])


def show(kind: str, name: str, documents: Iterable[Document], field: str = "") -> Code:
    """One document as YAML, for a notebook: from the files, never typed a second time.

    Args:
        kind: such as ``"InferenceService"``.
        name: its ``metadata.name``.
        documents: where to look, as :func:`load` or :func:`render` gave them.
        field: a part of it only, such as ``"spec.predictor.model"``; list items by number.

    Raises:
        ManifestError: when there is no such document or field, naming those that there are.
    """
    documents = list(documents)
    found = [document for document in documents if (document.kind, document.name) == (kind, name)]
    if not found:
        known = ", ".join(f"{document.kind}/{document.name}" for document in documents)
        raise ManifestError(f"There is no {kind} {name} here. There are: {known or 'no documents'}.")
    body: Any = found[0].body
    for part in filter(None, field.split(".")):
        try:
            body = body[int(part)] if isinstance(body, list) else body[part]
        except (KeyError, IndexError, TypeError, ValueError):
            raise ManifestError(f"{kind} {name} has no field {field}; {part} is missing.") from None
    shown = Code("", language="yaml")
    # Not given at once: text that begins with "http", as a probe's httpGet does, would be taken for an address.
    shown.data = yaml.safe_dump(body, sort_keys=False, width=100, allow_unicode=True)
    return shown


def _is_core(document: Document) -> bool:
    """Whether Kubernetes itself knows the kind; operators' groups have another domain, or one more name before it."""
    group = document.api_version.rpartition("/")[0]
    return re.fullmatch(r"[\w-]*|([\w-]+|rbac\.authorization|flowcontrol\.apiserver)\.k8s\.io", group) is not None


def _schema_problems(document: Document) -> Iterator[Problem]:
    if not document.kind or not document.api_version:
        yield Problem(document, "kind", "kind or apiVersion is missing", "A manifest says what it is with both.")
        return
    if not document.name and not document.api_version.startswith("kustomize."):
        yield Problem(document, "metadata.name", "the object has no name", "Give it one.")
    if not _is_core(document):
        return
    validator = _validator(document.api_version, document.kind)
    if validator is None:
        yield Problem(
            document, "apiVersion", f"Kubernetes {KUBERNETES} knows no {document.api_version} {document.kind}",
            "Compare kind and version with `oc api-resources`.",
        )  # fmt: skip
        return
    for error in validator.iter_errors(document.body):
        field = ".".join(map(str, error.absolute_path)) or "(the whole document)"
        yield Problem(
            document, field, error.message.splitlines()[0][:200], f"See `oc explain {document.kind.lower()}`."
        )


@functools.cache
def _validator(api_version: str, kind: str) -> jsonschema.protocols.Validator | None:
    """The strict schema of a core kind, which knows every field and takes no other; None for an unknown kind."""
    # Schema files are named without the group's domain: apps/v1 is apps-v1, networking.k8s.io/v1 networking-v1.
    group, _, version = api_version.rpartition("/")
    name = "-".join(filter(None, [kind.lower(), group.partition(".")[0], version])) + ".json"
    try:
        schema = kubernetes_validate.utils.schema_contents(f"{_schema_folder()}/{name}", KUBERNETES)
    except FileNotFoundError:
        return None
    return jsonschema.Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _definitions())


@functools.cache
def _schema_folder() -> str:
    known = kubernetes_validate.utils.all_versions()
    version = next(version for version in known if version.startswith(f"{KUBERNETES}."))
    return f"kubernetes-json-schema/v{version}-local-strict"


@functools.cache
def _definitions() -> Registry:
    # Megabytes, which kubernetes_validate.validate would read again for every document.
    text = kubernetes_validate.utils.schema_contents(f"{_schema_folder()}/_definitions.json", KUBERNETES)
    return Resource.from_contents(text) @ Registry()
