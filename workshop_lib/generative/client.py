"""A thin client of a language model behind the OpenAI API: every call tells its tokens and its times.

llm = connect()
reply = llm.chat("Name three vegetables.", max_tokens=30)
reply.text, reply.completion_tokens, reply.first_token_seconds
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import openai
from pydantic import BaseModel, ValidationError

from workshop_lib import processes
from workshop_lib.generative.server import llm_server, local_api_key, served_name
from workshop_lib.settings import settings

Message = dict[str, str]
Model = TypeVar("Model", bound=BaseModel)


class LLMError(RuntimeError):
    """The language model gave no usable answer; the message says why and what to do."""


class LLMUnavailable(LLMError):
    """The endpoint cannot be reached."""


class LLMRefused(LLMError):
    """The endpoint answered that it will not do this: a wrong key, a prompt too long, an unknown parameter.

    ``status`` is the HTTP status, ``__cause__`` the error of the ``openai`` package.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Reply:
    """An answer and what it took. While it is streamed, it grows."""

    text: str = ""
    finish_reason: str = ""
    """``stop`` (the model ended), ``length`` (it was cut at ``max_tokens``); empty while it is streamed."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Tokens of the prompt that the server found in its prefix cache."""
    completion_tokens: int = 0
    first_token_seconds: float = float("nan")
    """From sending the request to the first piece of text."""
    seconds: float = float("nan")
    """From sending the request to the end of the answer."""

    @property
    def tokens_per_second(self) -> float:
        """Speed after the first token; NaN for an answer of one token."""
        writing = self.seconds - self.first_token_seconds
        return (self.completion_tokens - 1) / writing if self.completion_tokens > 1 and writing > 0 else float("nan")

    def summary(self) -> dict[str, object]:
        """Tokens and times as a row for a table; times in seconds."""
        return {
            "finish_reason": self.finish_reason,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": self.completion_tokens,
            "first_token_seconds": self.first_token_seconds,
            "seconds": self.seconds,
        }


@dataclass
class Stream:
    """Pieces of an answer as they arrive; ``reply`` holds what has come so far."""

    _pieces: Iterator[str]
    reply: Reply = field(default_factory=Reply)

    def __iter__(self) -> Iterator[str]:
        return self._pieces


class LLM:
    """One model at one endpoint.

    Args:
        url: the endpoint up to and including ``/v1``.
        model: its served name.
        api_key: sent as a bearer token.
        timeout: longest wait for an answer, seconds.
        retries: further attempts after a lost connection or a status 408, 409, 429 or 5xx, with exponential
            back-off and jitter (the ``openai`` package does both).
        ca_file: PEM file of a private certificate authority.
        restart: what a user does when the endpoint is gone; part of the error message.
    """

    def __init__(
        self,
        url: str,
        model: str,
        api_key: str,
        *,
        timeout: float = 120,
        retries: int = 2,
        ca_file: str | None = None,
        restart: str = "Check WORKSHOP_LLM_ENDPOINT and the server there.",
    ) -> None:
        self.url, self.model, self._key, self._restart = url, model, api_key, restart
        self.trust: Any = ssl.create_default_context(cafile=ca_file) if ca_file else True
        self.openai = openai.OpenAI(
            base_url=url,
            api_key=api_key,
            timeout=timeout,
            max_retries=retries,
            http_client=openai.DefaultHttpxClient(verify=self.trust, timeout=timeout),
        )

    def chat(self, messages: str | Sequence[Message], **sampling: Any) -> Reply:
        """Ask and wait for the whole answer.

        Args:
            messages: a question, or a conversation as ``{"role": …, "content": …}``.
            sampling: what the endpoint accepts: ``max_tokens``, ``temperature``, ``top_p``, ``stop``, ``seed``,
                ``response_format``; parameters of vLLM's own, such as ``top_k``, go into ``extra_body``.

        Raises:
            LLMUnavailable: when the endpoint cannot be reached or goes away meanwhile.
            LLMRefused: when it answers with an error.
        """
        stream = self.stream(messages, **sampling)
        for _ in stream:
            pass
        return stream.reply

    def stream(self, messages: str | Sequence[Message], **sampling: Any) -> Stream:
        """Ask and get the answer piece by piece; parameters and errors as in :meth:`chat`."""
        conversation = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        reply = Reply()
        return Stream(self._pieces(reply, conversation, sampling), reply)

    def structured(
        self, messages: str | Sequence[Message], schema: type[Model], **sampling: Any
    ) -> tuple[Model, Reply]:
        """Ask for JSON of a given form; the server lets the model write nothing else.

        Args:
            messages: as in :meth:`chat`.
            schema: a pydantic model; its JSON schema is sent along.
            sampling: as in :meth:`chat`.

        Raises:
            LLMError: when the answer was cut off or breaks a rule that JSON schema cannot state.
        """
        wanted = {"name": schema.__name__, "schema": schema.model_json_schema(), "strict": True}
        reply = self.chat(messages, response_format={"type": "json_schema", "json_schema": wanted}, **sampling)
        try:
            return schema.model_validate_json(reply.text), reply
        except ValidationError as error:
            cut = " It was cut off: allow more max_tokens." if reply.finish_reason == "length" else ""
            problem = error.errors()[0]
            where = "".join(f"{part}: " for part in problem["loc"])
            raise LLMError(f"The answer is not a {schema.__name__} ({where}{problem['msg']}).{cut}") from error

    def models(self) -> list[str]:
        """Names of the models that the endpoint serves.

        Raises:
            LLMUnavailable: when the endpoint cannot be reached.
            LLMRefused: when it answers with an error.
        """
        return self._call(lambda: [model.id for model in self.openai.models.list()])

    def page(self, path: str) -> str:
        """Text of a page that the server offers beside the API, such as ``/metrics``.

        Raises:
            LLMUnavailable: when the endpoint cannot be reached.
            LLMRefused: when it answers with an error.
        """
        address = self.url.removesuffix("/v1") + path
        try:
            answer = httpx.get(address, headers={"Authorization": f"Bearer {self._key}"}, verify=self.trust)
        except httpx.TransportError as error:
            raise LLMUnavailable(f"{address} does not answer. {self._restart}") from error
        if answer.is_error:
            raise LLMRefused(answer.status_code, f"{address} refused with status {answer.status_code}.")
        return answer.text

    def _pieces(self, reply: Reply, messages: Sequence[Message], sampling: dict[str, Any]) -> Iterator[str]:
        begun = time.perf_counter()
        create: Any = self.openai.chat.completions.create
        usage = {"include_usage": True}
        chunks = self._call(
            lambda: create(model=self.model, messages=messages, stream=True, stream_options=usage, **sampling)
        )
        with chunks:
            while (chunk := self._call(lambda: next(chunks, None))) is not None:
                piece = _take(chunk, reply)
                if piece:
                    if not reply.text:
                        reply.first_token_seconds = time.perf_counter() - begun
                    reply.text += piece
                    yield piece
        reply.seconds = time.perf_counter() - begun

    def _call(self, request: Callable[[], Any]) -> Any:
        """Do it; the errors of two libraries become ours."""
        try:
            return request()
        except openai.APIStatusError as error:
            raise LLMRefused(error.status_code, _reason(self.url, error)) from error
        except openai.APITimeoutError as error:
            raise LLMUnavailable(
                f"{self.url} gave no answer in time (WORKSHOP_LLM_TIMEOUT). {self._restart}"
            ) from error
        except openai.APIConnectionError as error:
            raise LLMUnavailable(f"The language model at {self.url} does not answer. {self._restart}") from error
        except openai.APIError as error:  # the stream itself brings the bad news
            raise LLMUnavailable(f"{self.url} broke off: {error.message.rstrip('.')}. {self._restart}") from error


def connect() -> LLM:
    """The model that the settings name; the local server is started when it is the one and does not run.

    Raises:
        LLMError: when the endpoint cannot be reached or does not serve the model.
        ServiceError: when the local server cannot be started.
    """
    llm = _remote(settings.llm_endpoint) if settings.llm_endpoint else local(llm_server())
    served = llm.models()
    if not llm.model:
        llm.model = served[0]
    if llm.model not in served:
        raise LLMError(f"{llm.url} serves {', '.join(served)}, not {llm.model}. Set WORKSHOP_LLM_MODEL to one of them.")
    return llm


def _remote(url: str) -> LLM:
    key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else "none"
    ca_file = str(settings.llm_ca_file) if settings.llm_ca_file else None
    return LLM(
        url, settings.llm_model or "", key, timeout=settings.llm_timeout, retries=settings.llm_retries, ca_file=ca_file
    )


def local(service: processes.Service, model: str | None = None) -> LLM:
    """The model behind a local server, which is started unless it runs.

    Args:
        service: made by :func:`~workshop_lib.generative.server.llm_server`.
        model: what that function was given as its model.

    Raises:
        ServiceError: when it cannot be started.
    """
    processes.start_with_progress(service)
    restart = f"It is the service {service.name}: ./workshop up starts it again, ./workshop status shows its log."
    return LLM(
        f"{service.url}/v1", served_name(model), local_api_key(),
        timeout=settings.llm_timeout, retries=settings.llm_retries, restart=restart,
    )  # fmt: skip


def _take(chunk: Any, reply: Reply) -> str:
    """Note what a chunk tells; return its text."""
    if chunk.usage:
        reply.prompt_tokens = chunk.usage.prompt_tokens
        reply.completion_tokens = chunk.usage.completion_tokens
        details = chunk.usage.prompt_tokens_details
        reply.cached_tokens = (details and details.cached_tokens) or 0
    if not chunk.choices:
        return ""
    reply.finish_reason = chunk.choices[0].finish_reason or reply.finish_reason
    return chunk.choices[0].delta.content or ""


def _reason(url: str, error: openai.APIStatusError) -> str:
    said = error.body.get("message") if isinstance(error.body, dict) else error.body
    said = str(said or error.message).rstrip(".") + "."
    if error.status_code == 401:
        said += " Check WORKSHOP_LLM_API_KEY."
    return f"{url} refused with status {error.status_code}: {said}"
