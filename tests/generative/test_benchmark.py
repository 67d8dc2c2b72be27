"""The load generator: its sums on made-up records, its schedule, and what it counts against the real server."""

import asyncio
import math
import time

import numpy as np
import pytest

from workshop_lib.generative import benchmark
from workshop_lib.generative.benchmark import Record, Run, Workload
from workshop_lib.generative.client import LLM
from workshop_lib.generative.server_metrics import read_metrics

TWO = [
    Record(due=0.0, arrivals=[0.5, 0.6, 0.8], end=1.0, tokens=3),
    Record(due=1.0, arrivals=[1.1, 1.2, 1.3], end=1.5, tokens=3),
]
FAILED = Record(due=0.2, arrivals=[0.9], error="status 500", tokens=1)
RUN = Run("2 at once", 2, [*TWO, FAILED], seconds=2.0)


def test_the_sums_of_a_run() -> None:
    figures = RUN.summary()
    assert (figures["requests"], figures["errors"], RUN.errors) == (3, 1, {"status 500": 1})
    assert figures["tokens/s"] == 3 and figures["requests/s"] == 1  # what failed counts for nothing
    assert figures["first token ms P50"] == pytest.approx(300)
    assert figures["first token ms P99"] == pytest.approx(100 + 0.99 * 400)
    assert figures["answer s P50"] == pytest.approx(0.75)
    assert sorted(RUN.inter_token) == pytest.approx([0.1, 0.1, 0.1, 0.2])
    assert list(benchmark.table([RUN, RUN]).index) == ["2 at once", "2 at once"]


def test_a_run_without_answers_has_no_waiting_times() -> None:
    figures = Run("x", 1, [FAILED], seconds=1).summary()
    assert figures["tokens/s"] == 0 and figures["errors"] == 1
    assert math.isnan(figures["first token ms P50"]) and math.isnan(figures["between tokens ms P99"])


def test_the_schedule_is_a_poisson_process_of_the_wanted_rate() -> None:
    due = benchmark.schedule(rate=5, requests=4000, seed=1)
    gaps = np.diff(due)
    assert due[0] == 0 and len(due) == 4000 and (gaps > 0).all()
    assert gaps.mean() == pytest.approx(1 / 5, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # as an exponential distribution has it
    assert due == benchmark.schedule(5, 4000, seed=1) != benchmark.schedule(5, 4000, seed=2)
    with pytest.raises(ValueError, match="must be above 0"):
        benchmark.schedule(0, 3, seed=1)


def test_answers_share_places_on_the_timeline_without_overlap() -> None:
    records = [Record(due, [due + 0.1], end, 1) for due, end in ((0, 3), (1, 2), (2, 4), (2.5, 5), (3, 6))]
    placed = list(benchmark.lanes(Run("x", 1, [*records, FAILED], 6)))
    assert [lane for lane, _ in placed] == [0, 1, 1, 2, 0]


def test_the_comparison_with_the_server_sees_a_difference() -> None:
    names = ("time_to_first_token", "inter_token_latency", "e2e_request_latency")
    before = {"vllm:generation_tokens_total": 10.0}
    after = {"vllm:generation_tokens_total": 16.0}
    for name, total, count in zip(names, (0.5, 0.5, 1.5), (2, 4, 2), strict=True):
        before |= {f"vllm:{name}_seconds_sum": 7.0, f"vllm:{name}_seconds_count": 3.0}
        after |= {f"vllm:{name}_seconds_sum": 7.0 + total, f"vllm:{name}_seconds_count": 3.0 + count}
    found = benchmark.compare_with_server(RUN, before, after)
    assert found.loc["generated tokens"].tolist() == [6, 6, 0]
    assert found.loc["first token"].tolist() == pytest.approx([300, 250, 0.2])
    assert found.loc["between tokens"].tolist() == pytest.approx([125, 125, 0])
    assert found.loc["whole answer"].tolist() == pytest.approx([750, 750, 0])


# --- Against the real server ----------------------------------------------------------------------


def test_a_closed_loop_counts_what_the_server_counts(llm: LLM) -> None:
    workload = Workload(tokens=6)
    benchmark.warm_up(llm, workload, 2)
    before = read_metrics(llm)
    run = benchmark.closed_loop(llm, workload, concurrency=3, requests=7)
    found = benchmark.compare_with_server(run, before, read_metrics(llm))
    assert len(run.answered) == len(run.records) == 7 and not run.errors
    assert all(record.tokens == 6 and len(record.arrivals) <= 6 for record in run.records)
    assert found.loc["generated tokens", ["client", "server"]].tolist() == [42, 42]
    assert all(record.due < record.arrivals[0] <= record.arrivals[-1] <= record.end for record in run.records)
    assert max(record.end for record in run.records) <= run.seconds


def test_no_more_are_under_way_than_the_loop_allows(llm: LLM) -> None:
    records = benchmark.closed_loop(llm, Workload(tokens=4), concurrency=2, requests=6).answered
    under_way = [sum(other.due <= record.due < other.end for other in records) for record in records]
    assert max(under_way) == 2


def test_an_open_loop_does_not_wait_for_answers(llm: LLM) -> None:
    run = benchmark.open_loop(llm, Workload(tokens=8), rate=200, requests=6)
    due = [record.due for record in run.records]
    assert due == benchmark.schedule(200, 6, benchmark.settings.seed)
    assert max(due) < min(record.end for record in run.records)  # all were sent before the first was done
    assert not run.errors


@pytest.mark.parametrize(("changes", "error"), [({"api_key": "wrong"}, "status 401"), ({"model": "x"}, "status 404")])
def test_errors_are_counted_by_kind(llm: LLM, changes: dict[str, str], error: str) -> None:
    given = {"model": llm.model, "api_key": str(llm.openai.api_key)} | changes
    run = benchmark.closed_loop(LLM(llm.url, given["model"], given["api_key"]), Workload(tokens=2), 2, requests=4)
    assert run.errors == {error: 4} and run.answered == []


def test_a_server_that_is_gone_is_an_error_of_each_request() -> None:
    run = benchmark.closed_loop(LLM("http://127.0.0.1:9/v1", "m", "k"), Workload(), 1, requests=2)
    assert run.errors == {"ConnectError": 2}


def test_a_shared_beginning_is_read_once_unless_requests_opt_out(llm: LLM) -> None:
    def cached(share: bool) -> float:
        rules = f"You are assistant {time.time_ns()}. " + "Be short and polite to everybody. " * 60
        workload = Workload(tokens=1, system=rules, share_prefix=share)
        benchmark.warm_up(llm, workload, 1)
        before = read_metrics(llm)["vllm:prefix_cache_hits_total"]
        benchmark.closed_loop(llm, workload, 1, requests=2)
        return read_metrics(llm)["vllm:prefix_cache_hits_total"] - before

    assert cached(share=True) > 500
    assert cached(share=False) == 0


def test_it_runs_where_an_event_loop_is_running_already(llm: LLM) -> None:
    async def in_a_notebook() -> Run:
        return benchmark.closed_loop(llm, Workload(tokens=1), 1, requests=1)

    assert len(asyncio.run(in_a_notebook()).answered) == 1
