"""Errors as clients see them: problem+json (RFC 9457), always with the reason and what would be right.

{"type": "about:blank", "title": "Unprocessable Content", "status": 422, "detail": "…",
 "errors": [{"field": "dates.0", "got": "2019-01-01", "expected": "a day from …"}], "request_id": "…"}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import Counter
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1
"""What ``Retry-After`` says when nobody knows better."""
_LONGEST_ECHO = 80
"""Characters of a wrong value that come back; a client knows what it sent, a log need not fill up."""
VALIDATION_ERRORS = Counter("validation_errors_total", "Requests whose content was wrong", ["path"])

_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"description": "no key, or a wrong one", "content": _PROBLEM},
    413: {"description": "the body is too large", "content": _PROBLEM},
    422: {"description": "a field is wrong; which one, and what it accepts", "content": _PROBLEM},
    503: {"description": "too much to do, or something needed is away; see Retry-After", "content": _PROBLEM},
    504: {"description": "it took too long", "content": _PROBLEM},
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"description": "there is no such thing", "content": _PROBLEM}}
"""For the documentation: what any path may answer, and what one that looks something up may."""


class InvalidInput(ValueError):
    """A request asks for something that is not there or makes no sense.

    Args:
        field: where in the request, such as ``dates.0``.
        got: what was there.
        expected: what would be right.
        status: 422, or 404 for a thing that does not exist.
    """

    def __init__(self, field: str, got: object, expected: str, status: int = 422) -> None:
        super().__init__(f"{field}: got {echo(got)}, expected {expected}.")
        self.field, self.got, self.expected, self.status = field, echo(got), expected, status


class Problem(Exception):
    """The service cannot do this now; ``retry`` is for the header ``Retry-After``, seconds."""

    def __init__(self, status: int, detail: str, retry: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.retry = status, detail, retry


def echo(value: object) -> str:
    """A short text for a value from outside that any encoder can write."""
    text = value if isinstance(value, str) else repr(value)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= _LONGEST_ECHO else f"{text[:_LONGEST_ECHO]}…"


def problem_body(
    status: int, detail: str, request_id: str | None, errors: Sequence[Mapping[str, str]] | None = None
) -> bytes:
    """The body of a problem as JSON."""
    body: dict[str, Any] = {
        "type": "about:blank",  # the status says what kind of problem it is, the detail what happened
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        body["errors"] = errors
    if request_id:
        body["request_id"] = request_id
    return orjson.dumps(body)


def problem_headers(retry: int | None) -> dict[str, str]:
    """``Retry-After`` where trying again may help."""
    return {} if retry is None else {"Retry-After": str(retry)}


def respond(
    request: Request,
    status: int,
    detail: str,
    errors: Sequence[Mapping[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem as the answer to a request."""
    trace = request.scope.get("trace", {})
    body = problem_body(status, detail, trace.get("request_id"), errors)
    return Response(body, status, headers, MEDIA_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Let every error of an application leave it as a problem."""
    app.add_exception_handler(RequestValidationError, _wrong_form)
    app.add_exception_handler(InvalidInput, _wrong_content)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unforeseen)


async def _wrong_form(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    VALIDATION_ERRORS.labels(_template(request)).inc()
    errors = [_field(problem) for problem in error.errors()[:20]]
    detail = " ".join(f"{one['field']}: got {one['got']}, expected {one['expected']}." for one in errors)
    return respond(request, 422, detail, errors)


def _template(request: Request) -> str:
    """The path as it was declared: few values, whatever is asked for."""
    return getattr(request.scope.get("route"), "path", "unknown")


def _field(problem: Mapping[str, Any]) -> dict[str, str]:
    """One of pydantic's findings as field, value and what would be right."""
    got, expected = echo(problem.get("input")), problem["msg"]
    places = [part for part in problem["loc"] if part not in ("body", "query", "header")]
    if problem["type"] == "json_invalid":
        got, expected = f"an error at character {places.pop()}", "JSON"
    elif problem["type"] == "missing":
        got, expected = "nothing", "a value"
    elif not places and problem["type"] != "value_error":
        expected = "a JSON object with the header Content-Type: application/json"
    elif problem["type"] == "extra_forbidden":
        expected = "no field of this name"
    for beginning in ("Value error, ", "Input should be ", "Input should have "):
        expected = expected.removeprefix(beginning)
    return {"field": ".".join(map(echo, places)) or "body", "got": got, "expected": expected}


async def _wrong_content(request: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidInput)
    VALIDATION_ERRORS.labels(_template(request)).inc()
    errors = [{"field": error.field, "got": error.got, "expected": error.expected}]
    return respond(request, error.status, str(error), errors)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return respond(request, error.status, error.detail, headers=problem_headers(error.retry))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return respond(request, error.status_code, str(error.detail), headers=error.headers)


async def _unforeseen(request: Request, error: Exception) -> Response:
    # What went wrong stands in the log under this request ID; a stranger need not know.
    request_id = request.scope.get("trace", {}).get("request_id", "")
    detail = "The service failed; its log knows more under this request ID."
    return respond(request, 500, detail, headers={"X-Request-ID": request_id} if request_id else None)
