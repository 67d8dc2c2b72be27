"""Read YAML files as kubectl reads them. Quick to import: services read their settings with it.

documents = load("5-monitoring-optimization/monitoring/model_monitoring_config.yaml")
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from workshop_lib.manifest_rules import Document
from workshop_lib.settings import ROOT


class ManifestError(ValueError):
    """A file cannot be read as manifests, or kubectl cannot render a folder; the message says where and why."""


def load(path: Path | str) -> list[Document]:
    """Read a YAML file, or every one below a folder, in the order of their names.

    Args:
        path: absolute, or relative to the checkout.

    Raises:
        ManifestError: when there is nothing to read, or YAML is broken; with file and line.
    """
    place = ROOT / path
    files = sorted(file for file in place.rglob("*") if file.suffix in (".yaml", ".yml")) if place.is_dir() else [place]
    if not files or not files[0].is_file():
        raise ManifestError(f"{path}: there is no YAML file.")
    return [document for file in files for document in parse(file.read_text(encoding="utf-8"), short_name(file))]


def short_name(path: Path) -> str:
    """A path as messages name it: relative to the checkout where it lies within."""
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def parse(text: str, file: str) -> list[Document]:
    """The documents in a text; empty ones do not count.

    Raises:
        ManifestError: when the YAML is broken, with the file's name and the line.
    """
    loader = _Loader(text)
    documents: list[Document] = []
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # check_node has seen one
            body = loader.construct_document(node)
            if body is None:
                continue
            if not isinstance(body, dict):
                raise ManifestError(f"{file}, line {node.start_mark.line + 1}: not a mapping but {body!r}.")
            documents.append(Document(file, len(documents) + 1, node.start_mark.line + 1, body))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ManifestError(f"{file}, line {line}: {error.problem}") from None
    finally:
        loader.dispose()
    return documents


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: a key given twice is an error, dates and times of day stay text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            what = f"the key {key!r} is there twice" if key in seen else ""
            if isinstance(key, dict | list):
                what = "a key that is no text: is a {{ template }} without quotes?"
            if what:
                raise yaml.constructor.ConstructorError(None, None, what, key_node.start_mark)
            seen.append(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    letter: [
        (tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("timestamp", "int", "float")
    ]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(0x[0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
