"""What starts a pipeline: a message comes in, and either a run comes out or a reason why not.

    decisions = receive(documents, "releases", headers, body, {"webhook-code": {"token": "…"}})
    decisions[0].run                                          # a PipelineRun, ready for the runner

Evaluated are the objects of Tekton Triggers in the pipeline's file: the EventListener with its interceptors, bindings
and templates. Two interceptors are known: ``github``, which checks the signature of a message and the kind of event,
and ``cel``, whose filter is an expression about the message. Of CEL (the Common Expression Language) the part is known
that Python's grammar shares with it: comparisons, ``&&``, ``||``, ``!``, fields, ``startsWith``, ``contains`` and
``exists``.
"""

from __future__ import annotations

import ast
import hashlib
import hmac
import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from workshop_lib.manifest_rules import Document
from workshop_lib.mlops.tekton import TektonError, fill

SIGNATURE_HEADER, EVENT_HEADER = "X-Hub-Signature-256", "X-GitHub-Event"
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.In: lambda item, where: item in where,
}  # fmt: skip


class Refused(Exception):
    """An interceptor lets a message not pass; the message says why."""


@dataclass(frozen=True)
class Decision:
    """What a trigger makes of a message."""

    trigger: str
    run: dict[str, Any] | None
    """The PipelineRun that it starts; None when it starts none."""
    because: str
    """Why not; empty when it starts one."""


def sign(body: bytes, secret: str) -> str:
    """The signature that GitHub sends with a message: HMAC-SHA256 of its bytes."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def receive(
    documents: Iterable[Document],
    listener: str,
    headers: Mapping[str, str],
    body: bytes,
    secrets: Mapping[str, Mapping[str, str]],
) -> list[Decision]:
    """Show a message to every trigger of a listener.

    Args:
        documents: the objects of Tekton Triggers.
        listener: name of the EventListener.
        headers: of the message.
        body: its bytes, JSON.
        secrets: content of the Secrets that interceptors refer to, by name and key.

    Raises:
        TektonError: when the objects do not fit together.
        ValueError: when the body is no JSON.
    """
    objects = {(one.kind, one.name): one.body["spec"] for one in documents if one.kind and one.body.get("spec")}
    if ("EventListener", listener) not in objects:
        raise TektonError(f"There is no EventListener {listener}.")
    message = json.loads(body)
    decisions = []
    for trigger in objects["EventListener", listener]["triggers"]:
        try:
            for interceptor in trigger.get("interceptors", []):
                _intercept(interceptor, headers, body, message, secrets)
            run = _make(trigger, objects, message)
            decisions.append(Decision(trigger["name"], run, ""))
        except Refused as reason:
            decisions.append(Decision(trigger["name"], None, str(reason)))
    return decisions


def evaluate(expression: str, message: Any) -> Any:
    """The value of a CEL expression about a message, which it calls ``body``.

    Raises:
        TektonError: for what is not known here.
        Refused: when a field is missing.
    """
    python = re.sub(r"!(?!=)", " not ", expression.replace("&&", " and ").replace("||", " or "))
    try:
        tree = ast.parse(" ".join(python.split()), mode="eval")
    except SyntaxError:
        raise TektonError(f"{expression!r} is no expression that is known here.") from None
    return _value(tree.body, {"body": message, "true": True, "false": False})


def _intercept(
    interceptor: Mapping[str, Any],
    headers: Mapping[str, str],
    body: bytes,
    message: Any,
    secrets: Mapping[str, Mapping[str, str]],
) -> None:
    """Let a message pass or raise :class:`Refused`."""
    name = interceptor["ref"]["name"]
    params = {one["name"]: one["value"] for one in interceptor.get("params", [])}
    given = {key.lower(): value for key, value in headers.items()}
    if name == "cel":
        if evaluate(params["filter"], message) is not True:
            raise Refused("the filter does not hold")
    elif name == "github":
        ref = params["secretRef"]
        right = sign(body, secrets[ref["secretName"]][ref["secretKey"]])
        if not hmac.compare_digest(right, given.get(SIGNATURE_HEADER.lower(), "")):
            raise Refused("the signature is wrong")
        event = given.get(EVENT_HEADER.lower())
        if event not in params["eventTypes"]:
            raise Refused(f"events of the kind {event} are not for it")
    else:
        raise TektonError(f"The interceptor {name} is not known here.")


def _make(trigger: Mapping[str, Any], objects: Mapping[tuple[str, str], Any], message: Any) -> dict[str, Any]:
    """Fill bindings from the message, and the template from the bindings."""
    template = objects["TriggerTemplate", trigger["template"]["ref"]]
    values = {one["name"]: one.get("default") for one in template["params"]}
    for binding in trigger["bindings"]:
        for one in objects["TriggerBinding", binding["ref"]]["params"]:
            fields = re.findall(r"\$\((body\.[\w.]+)\)", one["value"])
            found = {field: str(evaluate(field, message)) for field in fields}
            values[one["name"]] = fill(one["value"], found)
    if missing := [name for name, value in values.items() if value is None]:
        raise TektonError(f"Trigger {trigger['name']}: {', '.join(missing)} gets no value.")
    runs = fill(template["resourcetemplates"], {f"tt.params.{name}": value for name, value in values.items()})
    run: dict[str, Any] = runs[0]
    return run


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.Attribute(value=inner, attr=field):
            holder = _value(inner, names)
            if not isinstance(holder, Mapping) or field not in holder:
                raise Refused(f"the message has no {ast.unparse(node)}")
            return holder[field]
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(_value(part, names) is True for part in parts)
        case ast.BoolOp(op=ast.Or(), values=parts):
            return any(_value(part, names) is True for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            return _value(inner, names) is not True
        case ast.Compare(left=left, ops=[compare], comparators=[right]) if type(compare) in _COMPARE:
            return _COMPARE[type(compare)](_value(left, names), _value(right, names))
        case ast.Call(func=ast.Attribute(value=inner, attr="startsWith"), args=[start]):
            return str(_value(inner, names)).startswith(_value(start, names))
        case ast.Call(func=ast.Attribute(value=inner, attr="contains"), args=[part]):
            return _value(part, names) in _value(inner, names)
        case ast.Call(func=ast.Attribute(value=inner, attr="exists"), args=[ast.Name(id=name), condition]):
            return any(_value(condition, {**names, name: item}) is True for item in _value(inner, names))
    raise TektonError(f"{ast.unparse(node)} is not known here.")
