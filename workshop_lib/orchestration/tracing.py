"""What happened in a chain, step by step: as a table at once, and as traces that MLflow keeps.

steps = StepTimes()
chain.invoke(question, config={"callbacks": [steps]})
steps.table()
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import mlflow
import pandas as pd
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import ChatGeneration, LLMResult
from mlflow.entities import SpanType, Trace

from workshop_lib.predictive import tracking

EXPERIMENT = "assistant"
# LangChain's own names for what only holds steps together.
_PLUMBING = ("Runnable",)


@dataclass
class _Step:
    name: str
    parent: UUID | None
    started: float
    ended: float | None = None
    tokens: int = 0
    failed: str = ""


class StepTimes(BaseCallbackHandler):
    """Notes when each named step of a chain began and ended, and the tokens that it wrote. Threads may share it."""

    def __init__(self) -> None:
        self._steps: dict[UUID, _Step] = {}
        self._lock = threading.Lock()

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
        self._begin(run_id, parent_run_id, more.get("name") or "step")

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: object,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **more: Any,
    ) -> None:
        """The language model is asked."""
        self._begin(run_id, parent_run_id, "language model")

    def on_chain_end(self, outputs: object, *, run_id: UUID, **more: Any) -> None:
        """A step is done."""
        self._end(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        """A step failed."""
        self._end(run_id, failed=type(error).__name__)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **more: Any) -> None:
        """The language model has answered."""
        made = [one for several in response.generations for one in several if isinstance(one, ChatGeneration)]
        usage = [getattr(one.message, "usage_metadata", None) or {} for one in made]
        self._end(run_id, tokens=sum(one.get("output_tokens", 0) for one in usage))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        """The language model gave no answer."""
        self._end(run_id, failed=type(error).__name__)

    def table(self) -> pd.DataFrame:
        """One row per named step in the order of their beginnings.

        Columns: ``step``; ``depth``, 0 for the chain itself; ``started_ms`` after the first beginning; ``took_ms``;
        ``tokens`` that the language model wrote; ``failed``, the error's name or empty.
        """
        with self._lock:
            named = {run: step for run, step in self._steps.items() if not step.name.startswith(_PLUMBING)}
            rows = [
                {
                    "step": step.name,
                    "depth": self._depth(step, named),
                    "started_ms": step.started,
                    "took_ms": (step.ended or step.started) - step.started,
                    "tokens": step.tokens,
                    "failed": step.failed,
                }
                for step in named.values()
            ]
        table = pd.DataFrame(rows, columns=["step", "depth", "started_ms", "took_ms", "tokens", "failed"])
        table["started_ms"] = (table["started_ms"] - table["started_ms"].min()) * 1000
        table["took_ms"] *= 1000
        return table.sort_values(["started_ms", "depth"], ignore_index=True)

    def _begin(self, run: UUID, parent: UUID | None, name: str) -> None:
        with self._lock:
            self._steps[run] = _Step(name, parent, time.perf_counter())

    def _end(self, run: UUID, tokens: int = 0, failed: str = "") -> None:
        with self._lock:
            if step := self._steps.get(run):
                step.ended, step.tokens, step.failed = time.perf_counter(), tokens, failed

    def _depth(self, step: _Step, named: dict[UUID, _Step]) -> int:
        depth, parent = 0, step.parent
        while parent in self._steps:
            depth += parent in named
            parent = self._steps[parent].parent
        return depth


def use_tracing() -> None:
    """Let MLflow keep a trace of every chain that runs from now on in this process.

    Raises:
        TrackingError: when the configured MLflow cannot be used.
    """
    tracking.use_tracking(EXPERIMENT)
    mlflow.langchain.autolog(silent=True)


@contextmanager
def request(name: str, **inputs: object) -> Iterator[None]:
    """One trace for all chains that run inside; they become its spans.

    Args:
        name: of the request.
        inputs: what was asked, as the trace shows it.
    """
    with mlflow.start_span(name=name, span_type=SpanType.CHAIN) as span:
        span.set_inputs(inputs)
        yield


def last_trace() -> Trace:
    """The newest trace of the course's store.

    Raises:
        LookupError: when there is none yet.
    """
    experiment = tracking.use_tracking(EXPERIMENT)
    found = mlflow.search_traces(
        locations=[experiment.experiment_id], max_results=1, order_by=["timestamp_ms DESC"], return_type="list"
    )
    if not found:
        raise LookupError(f"The experiment {EXPERIMENT} holds no trace. Call use_tracing() before the chain runs.")
    return found[0]


def trace_table(trace: Trace) -> pd.DataFrame:
    """The named spans of a trace in the order of their beginnings: span, kind, started_ms, took_ms, status."""
    spans = sorted(trace.data.spans, key=lambda span: span.start_time_ns)
    spans = [span for span in spans if not span.name.startswith(_PLUMBING)]
    begun = spans[0].start_time_ns
    return pd.DataFrame(
        {
            "span": [span.name for span in spans],
            "kind": [str(span.span_type).lower() for span in spans],
            "started_ms": [(span.start_time_ns - begun) / 1e6 for span in spans],
            "took_ms": [((span.end_time_ns or span.start_time_ns) - span.start_time_ns) / 1e6 for span in spans],
            "status": [span.status.status_code.value for span in spans],
        }
    )
