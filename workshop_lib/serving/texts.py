"""Product texts by the language model, with facts from the catalogue and the prompt that module 2 chose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from workshop_lib import data
from workshop_lib.generative import facts, prompts
from workshop_lib.generative.client import LLM, LLMError, LLMRefused
from workshop_lib.generative.quality import measure
from workshop_lib.generative.server import llm_server, local_api_key, served_name
from workshop_lib.serving.api_errors import InvalidInput, Problem
from workshop_lib.serving.api_schemas import DescribeRequest, DescribeResponse
from workshop_lib.settings import settings

Result = TypeVar("Result")

PROMPT = "product_description.few_shot"
"""The winner of notebook 03 of module 2, in its latest version."""
RETRY_SECONDS = 10
"""A language model that is away takes a while to come back."""
PROBE_SECONDS = 2


def reach(timeout: float) -> LLM:
    """The language model of the settings, asked once and never started: a request is not the time for that."""
    if settings.llm_endpoint:
        url, model = settings.llm_endpoint, settings.llm_model or ""
        key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else "none"
    else:
        url, model, key = f"{llm_server().url}/v1", served_name(), local_api_key()
    ca_file = str(settings.llm_ca_file) if settings.llm_endpoint and settings.llm_ca_file else None
    return LLM(url, model, key, timeout=timeout, retries=0, ca_file=ca_file, restart="Other paths go on without it.")


class Texts:
    """Writes about products."""

    def __init__(self) -> None:
        self._llm, self._probe = reach(settings.api_llm_timeout), reach(PROBE_SECONDS)
        self._prompt = prompts.load(PROMPT)
        products = data.load("products").sort_values("units", ascending=False, kind="stable")
        # Both found by name at once: looking through the catalogue takes longer than all else about an answer.
        self._products = products.set_index(products["product_id"].astype(str))
        self._best = products.assign(name=products["category"].str.upper()).drop_duplicates("name").set_index("name")
        # Threads of its own: a model that hangs must not take those that others need.
        self._threads = ThreadPoolExecutor(settings.api_llm_concurrency + 1, thread_name_prefix="llm")

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def identity(self, request: DescribeRequest) -> dict[str, Any]:
        """All that a text depends on: facts, tone, prompt and model.

        Raises:
            InvalidInput: see :meth:`facts`.
        """
        return {
            "facts": self.facts(request),
            "tone": request.tone,
            "prompt": self._prompt.model_dump(mode="json"),  # whole: its version says less than its words
            "model": self._llm.model,
        }

    def facts(self, request: DescribeRequest) -> dict[str, str]:
        """What may be said.

        Raises:
            InvalidInput: for a product or category that is not there, or that a machine must not write about.
        """
        if request.facts is not None:
            self._allow("facts", " ".join(request.facts.values()))
            return dict(request.facts)
        if request.product_id is not None:
            field, wanted, table = "product_id", str(request.product_id), self._products
            expected = f"a product of the catalogue, such as {self._products.index[0]}"
        else:
            field, wanted, table = "category", str(request.category).strip().upper(), self._best
            expected = f"a category of the catalogue, such as {self._products['category'].iloc[0]}"
        if wanted not in table.index:
            raise InvalidInput(field, request.product_id or request.category, expected, status=404)
        row = table.loc[[wanted]].iloc[0].to_dict()
        self._allow(field, str(row["category"]))
        return facts.describe(row)

    def _allow(self, field: str, text: str) -> None:
        if facts.NO_AUTOMATIC_TEXT.search(text.upper()):
            raise InvalidInput(field, text, "a product for which no law limits what an advertisement may say")

    async def write(self, request: DescribeRequest) -> DescribeResponse:
        """Write a text.

        Raises:
            InvalidInput: see :meth:`facts`.
            Problem: 503 when the model is away or busy, 502 when it does not accept the request.
        """
        given = self.facts(request)
        conversation = self._prompt.render(facts=given)
        if request.tone != "plain":
            conversation[0]["content"] += f" The tone is {request.tone}."
        try:
            return await self._in_thread(self._ask, given, conversation)
        except LLMRefused as error:
            if error.status == 429 or error.status >= 500:
                raise Problem(503, str(error), RETRY_SECONDS) from error
            raise Problem(502, str(error)) from error
        except LLMError as error:
            raise Problem(503, str(error), RETRY_SECONDS) from error

    def _ask(self, given: Mapping[str, str], conversation: list[dict[str, str]]) -> DescribeResponse:
        if not self._llm.model:  # an endpoint of which only the address was given
            self._llm.model = next(iter(self._llm.models()), "")
        reply = self._llm.chat(conversation, **self._prompt.sampling)
        quality = measure(reply.text, given)
        return DescribeResponse(
            text=reply.text.strip(),
            facts=dict(given),
            missing=list(quality.missing),
            invented=[*quality.invented_numbers, *quality.invented_claims],
            prompt=f"{self._prompt.name} v{self._prompt.version}",
            model=self._llm.model,
            tokens=reply.completion_tokens,
        )

    async def problem(self) -> str | None:
        """Why the model cannot be used now; None when it can."""
        try:
            await self._in_thread(self._probe.models)
        except LLMError as error:
            return str(error)
        return None

    async def _in_thread(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
