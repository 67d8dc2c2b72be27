"""A push and a delivery each start the run that they ask for, and nothing else does."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from workshop_lib import manifests
from workshop_lib.mlops.pipeline_practice import FILE
from workshop_lib.mlops.tekton import TektonError, read_pipeline, run_params
from workshop_lib.mlops.triggers import EVENT_HEADER, SIGNATURE_HEADER, Decision, Refused, evaluate, receive, sign

DOCUMENTS = manifests.load(FILE)
SECRETS = {"webhook-code": {"token": "one"}, "webhook-data": {"token": "two"}}
PUSH = {
    "ref": "refs/heads/main",
    "head_commit": {"id": "abc", "modified": ["README.md", "workshop_lib/plots.py"]},
    "pusher": {"name": "ana"},
}
DELIVERY = {"dataset": "transactions", "complete": True, "rows": 10, "owner": "ana"}


def send(message: dict[str, Any], event: str, secret: str) -> dict[str, Decision]:
    body = json.dumps(message).encode()
    headers = {SIGNATURE_HEADER: sign(body, secret), EVENT_HEADER.lower(): event}
    return {one.trigger: one for one in receive(DOCUMENTS, "releases", headers, body, SECRETS)}


@pytest.mark.parametrize(
    ("message", "event", "secret", "trigger", "revision"),
    [(PUSH, "push", "one", "code-changed", "abc"), (DELIVERY, "delivery", "two", "data-arrived", "main")],
)
def test_a_message_starts_its_own_run(
    message: dict[str, Any], event: str, secret: str, trigger: str, revision: str
) -> None:
    decisions = send(message, event, secret)
    run = decisions.pop(trigger).run
    assert run is not None and [one.run for one in decisions.values()] == [None]
    given = {one["name"]: one["value"] for one in run["spec"]["params"]}
    assert (given["revision"], given["author"]) == (revision, "ana")
    run_params(read_pipeline(DOCUMENTS, run["spec"]["pipelineRef"]["name"]), given)


@pytest.mark.parametrize(
    ("message", "event", "secret", "said"),
    [
        (PUSH, "push", "two", "signature"),
        (PUSH, "issues", "one", "events of the kind issues"),
        (PUSH | {"ref": "refs/heads/try"}, "push", "one", "filter"),
        (PUSH | {"head_commit": {"id": "a", "modified": ["README.md"]}}, "push", "one", "filter"),
        ({"ref": "refs/heads/main"}, "push", "one", r"no body\.head_commit"),
        (DELIVERY | {"complete": False}, "delivery", "two", "filter"),
        (DELIVERY | {"dataset": "promotions"}, "delivery", "two", "filter"),
        (DELIVERY | {"rows": 0}, "delivery", "two", "filter"),
    ],
)
def test_other_messages_start_nothing(message: dict[str, Any], event: str, secret: str, said: str) -> None:
    decisions = send(message, event, secret)
    assert [one.run for one in decisions.values()] == [None, None]
    trigger = "data-arrived" if event == "delivery" else "code-changed"
    assert re.search(said, decisions[trigger].because)


def test_a_changed_body_no_longer_fits_its_signature() -> None:
    body = json.dumps(PUSH).encode()
    headers = {SIGNATURE_HEADER: sign(body, "one"), EVENT_HEADER: "push"}
    changed = body.replace(b"ana", b"bob")
    assert receive(DOCUMENTS, "releases", headers, changed, SECRETS)[0].because == "the signature is wrong"
    assert receive(DOCUMENTS, "releases", {}, body, SECRETS)[0].because == "the signature is wrong"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("body.n == 3 && body.name != 'x'", True),
        ("body.n < 3 || !(body.name == 'shop')", False),
        ("body.name.startsWith('sh') && body.name.contains('op')", True),
        ("body.list.exists(one, one == 'b')", True),
        ("body.list.exists(one, one == body.name)", False),
        ("'a' in body.list", True),
        ("body.yes", True),
        ("body.yes == false", False),
    ],
)
def test_expressions(expression: str, value: bool) -> None:
    assert evaluate(expression, {"n": 3, "name": "shop", "list": ["a", "b"], "yes": True}) is value


@pytest.mark.parametrize("expression", ["__import__('os')", "body.n.bit_length()", "body.list[0]", "open('x')", "1 +"])
def test_nothing_else_is_evaluated(expression: str) -> None:
    with pytest.raises((TektonError, Refused)):
        evaluate(expression, {"n": 3, "list": [1]})


def test_a_missing_listener_is_named() -> None:
    with pytest.raises(TektonError, match="no EventListener other"):
        receive(DOCUMENTS, "other", {}, b"{}", SECRETS)
