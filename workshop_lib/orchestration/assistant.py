"""One door to the three chains: a question in plain words, a typed answer, and a text made from it.

    assistant = Assistant(connect(), load_shop(), Memory())
    reply = assistant.ask("How many eggs will we sell next week?", new_session())
    reply.text, reply.route, reply.answer, reply.sources

    recall ── router ── chain ── reply ── remember

What was said before reaches no prompt: of the conversation only the last typed question is used, to complete the next
one. So a text that somebody hid in a conversation has nobody to talk to.
"""

from __future__ import annotations

import contextvars
import queue
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnablePassthrough
from langchain_core.runnables.config import merge_configs
from pydantic import Field, ValidationError

from workshop_lib.orchestration.assistant_texts import reply_text
from workshop_lib.orchestration.customer import CustomerInsight, CustomerQuestion, customer_chain
from workshop_lib.orchestration.market import market_chain
from workshop_lib.orchestration.market_results import MarketAnalysis, MarketQuestion
from workshop_lib.orchestration.memory import Memory, MemoryBroken
from workshop_lib.orchestration.models import Models
from workshop_lib.orchestration.product import ProductAnalysis, ProductQuestion, product_chain
from workshop_lib.orchestration.results import DATA, Frozen, Source
from workshop_lib.orchestration.router import Route, Typed, router
from workshop_lib.orchestration.shop import Shop, UnknownThing

Analysis = ProductAnalysis | CustomerInsight | MarketAnalysis
_FORMS: dict[str, type[Typed]] = {
    "product": ProductQuestion, "customer": CustomerQuestion, "market": MarketQuestion,
}  # fmt: skip
_PLUMBING = ("Runnable",)


class Reply(Frozen):
    """What the assistant says to one question."""

    text: str = Field(description="in the question's language; every number in it is one of the answer's")
    route: Route
    answer: Analysis | None = Field(description="none where there is no route")
    sources: dict[str, Source] = Field(description="part of the reply, and where it is from")
    seconds: float

    @property
    def degraded(self) -> dict[str, Source]:
        """The parts that are substitutes or missing."""
        return {part: source for part, source in self.sources.items() if source.degraded}


class Step(Frozen):
    """A step of the work began or ended."""

    name: str
    state: Literal["started", "done", "failed"]
    depth: int = Field(description="0 for the assistant itself")
    seconds: float | None = Field(None, description="that it took, once it has ended")


class Assistant:
    """Answers questions; conversations do not know of each other. Threads may share it.

    Args:
        models: forecaster, churn model, language model.
        shop: the data.
        memory: of the conversations.
        ask_model: see :func:`~workshop_lib.orchestration.router.router`.
    """

    def __init__(self, models: Models, shop: Shop, memory: Memory, ask_model: bool | None = None) -> None:
        self.memory = memory
        self._chains: dict[str, Runnable[Any, Any]] = {
            "product": product_chain(models, shop),
            "customer": customer_chain(models, shop),
            "market": market_chain(models, shop),
        }
        self._work: Runnable[Any, Reply] = (
            RunnableLambda(self._recall, name="recall")
            | RunnablePassthrough.assign(route=router(models, shop, ask_model))
            | RunnablePassthrough.assign(answer=RunnableLambda(self._answer, name="chain"))
            | RunnableLambda(self._reply, name="reply")
        ).with_config(run_name="assistant")

    def ask(self, text: str, session: str, config: RunnableConfig | None = None) -> Reply:
        """Answer a question. A question that makes no sense gets a reply that says so.

        Args:
            text: the question, in English or Spanish.
            session: from :func:`~workshop_lib.orchestration.memory.new_session`.
            config: LangChain's, such as callbacks that watch the steps.

        Raises:
            SessionError: when this is no session.
        """
        begun = time.perf_counter()
        reply: Reply = self._work.invoke({"text": text, "session": session}, config)
        return reply.model_copy(update={"seconds": time.perf_counter() - begun})

    def stream(self, text: str, session: str, config: RunnableConfig | None = None) -> Iterator[Step | Reply]:
        """Answer a question while somebody watches; arguments and errors as in :meth:`ask`.

        Yields:
            Each step as it begins and ends; the reply is the last.
        """
        events: queue.SimpleQueue[Step | Future[Reply]] = queue.SimpleQueue()
        watched = merge_configs(config, {"callbacks": [_Watcher(events)]})
        pool = ThreadPoolExecutor(1)
        try:
            # A copy of the context takes along what belongs to the caller's request, such as an open trace.
            work = pool.submit(contextvars.copy_context().run, self.ask, text, session, watched)
            work.add_done_callback(events.put)
            while not isinstance(event := events.get(), Future):
                yield event
            yield event.result()
        finally:
            pool.shutdown(wait=False)

    def _recall(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Add the last typed question of the conversation, and whether the memory works."""
        try:
            kept = self.memory.last_route(asked["session"])
        except MemoryBroken as error:
            return asked | {"last": None, "sources": {"memory": Source(kind="missing", why=str(error))}}
        return asked | {"last": _typed(kept), "sources": {"memory": DATA}}

    def _answer(self, state: dict[str, Any], config: RunnableConfig) -> Analysis | UnknownThing | None:
        """Ask the chain of the route; a thing that the shop turns out not to have is an answer too."""
        route: Route = state["route"]
        if route.question is None:
            return None
        try:
            answer: Analysis = self._chains[route.chain].invoke(route.question, config)
        except UnknownThing as error:
            return error
        return answer

    def _reply(self, state: dict[str, Any]) -> Reply:
        """Make the text, and remember question and reply."""
        route, found = state["route"], state["answer"]
        if isinstance(found, UnknownThing):
            route = route.model_copy(update={"chain": "none", "question": None, "why": str(found)})
        answer = None if found is None or isinstance(found, UnknownThing) else found
        sources = state["sources"] | {"route": route.source} | (answer.sources if answer else {})
        text = " ".join((*route.notes, reply_text(answer, route.language) if answer else route.why))
        kept = {"chain": route.chain, "question": route.question.model_dump(mode="json")} if route.question else None
        try:
            self.memory.add(state["session"], state["text"], text, kept)
        except MemoryBroken as error:
            sources["memory"] = Source(kind="missing", why=str(error))
        return Reply(text=text, route=route, answer=answer, sources=sources, seconds=0)


class _Watcher(BaseCallbackHandler):
    """Tells of each named step as it begins and ends."""

    def __init__(self, events: queue.SimpleQueue[Any]) -> None:
        self._events = events
        self._begun: dict[UUID, tuple[str, int, float]] = {}
        self._depth: dict[UUID | None, int] = {None: -1}

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: object,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **more: Any,
    ) -> None:
        """A step begins."""
        name = str(more.get("name") or "step")
        above = self._depth.get(parent_run_id, -1)
        plumbing = name.startswith(_PLUMBING)
        self._depth[run_id] = above if plumbing else above + 1
        if not plumbing:
            self._begun[run_id] = (name, above + 1, time.perf_counter())
            self._events.put(Step(name=name, state="started", depth=above + 1))

    def on_chain_end(self, outputs: object, *, run_id: UUID, **more: Any) -> None:
        """A step is done."""
        self._end(run_id, "done")

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        """A step failed."""
        self._end(run_id, "failed")

    def _end(self, run_id: UUID, state: Literal["done", "failed"]) -> None:
        if begun := self._begun.pop(run_id, None):
            name, depth, since = begun
            self._events.put(Step(name=name, state=state, depth=depth, seconds=time.perf_counter() - since))


def _typed(kept: dict[str, Any] | None) -> Typed | None:
    """The typed question of a kept route; none when the file holds something else."""
    try:
        return _FORMS[kept["chain"]].model_validate(kept["question"]) if kept else None
    except (KeyError, TypeError, ValidationError):
        return None
