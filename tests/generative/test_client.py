"""The client: what it sends and tells, against the real server; how it fails, against one that fails on purpose."""

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
from pydantic import BaseModel, Field, SecretStr, model_validator

from workshop_lib.generative import client
from workshop_lib.generative.client import LLM, LLMError, LLMRefused, LLMUnavailable

QUESTION = "Name three vegetables."


class Label(BaseModel):
    department: Literal["bakery", "dairy"]
    keywords: list[str] = Field(min_length=2, max_length=3)


class Impossible(BaseModel):
    stars: Literal[1, 2, 3]

    @model_validator(mode="after")
    def _never(self) -> "Impossible":
        raise ValueError("no value will do")


# --- Against the real server ----------------------------------------------------------------------


def test_a_reply_tells_its_text_tokens_and_times(llm: LLM) -> None:
    before = time.perf_counter()
    reply = llm.chat(QUESTION, max_tokens=8, temperature=0)
    waited = time.perf_counter() - before
    assert reply.text and reply.finish_reason == "length" and reply.completion_tokens == 8
    assert reply.prompt_tokens > 4
    assert 0 < reply.first_token_seconds < reply.seconds <= waited
    assert reply.tokens_per_second == pytest.approx(7 / (reply.seconds - reply.first_token_seconds))


def test_a_stream_brings_the_same_answer_piece_by_piece(llm: LLM) -> None:
    stream = llm.stream([{"role": "user", "content": QUESTION}], max_tokens=20, temperature=0)
    pieces = []
    for piece in stream:
        pieces.append(piece)
        assert stream.reply.text == "".join(pieces)
    assert len(pieces) > 5
    assert stream.reply.text == llm.chat(QUESTION, max_tokens=20, temperature=0).text


def test_a_long_common_beginning_comes_from_the_cache(llm: LLM) -> None:
    rules = f"You are the assistant {time.time_ns()} of a shop. " + "Be short and polite. " * 60
    conversation = [{"role": "system", "content": rules}, {"role": "user", "content": "Hello."}]
    assert llm.chat(conversation, max_tokens=1).cached_tokens == 0
    again = llm.chat(conversation, max_tokens=1)
    assert 0 < again.cached_tokens <= again.prompt_tokens


def test_structured_output_has_the_form(llm: LLM) -> None:
    for product in ("a carton of milk", "a loaf of bread", "what is this?"):
        label, reply = llm.structured(f"Label: {product}", Label, max_tokens=120, temperature=0)
        assert isinstance(label, Label) and reply.completion_tokens > 0


def test_an_answer_that_is_cut_off_is_no_structured_output(llm: LLM) -> None:
    with pytest.raises(LLMError, match=r"not a Label \(.+\)\. It was cut off: allow more max_tokens"):
        llm.structured("Label: a carton of milk", Label, max_tokens=4, temperature=0)


def test_a_rule_beyond_json_schema_is_still_checked(llm: LLM) -> None:
    with pytest.raises(LLMError, match=r"not a Impossible \(Value error, no value will do\)\.$"):
        llm.structured("Stars?", Impossible, max_tokens=40, temperature=0)


@pytest.mark.parametrize(
    ("changes", "sampling", "status", "said"),
    [
        ({"api_key": "wrong"}, {}, 401, r"Unauthorized\. Check WORKSHOP_LLM_API_KEY"),
        ({"model": "gpt-9"}, {}, 404, "`gpt-9` does not exist"),
        ({}, {"temperature": -1}, 400, "temperature"),
        ({}, {"max_tokens": 5000}, 400, "2048"),
    ],
)
def test_a_refusal_says_why(
    llm: LLM, changes: dict[str, str], sampling: dict[str, float], status: int, said: str
) -> None:
    given = {"model": llm.model, "api_key": str(llm.openai.api_key)} | changes
    wrong = LLM(llm.url, given["model"], given["api_key"])
    with pytest.raises(LLMRefused, match=said) as caught:
        wrong.chat(QUESTION, **({"max_tokens": 3} | sampling))
    assert caught.value.status == status
    assert llm.url in str(caught.value)


def test_connect_shares_the_running_server(llm: LLM) -> None:
    again = client.connect()
    assert (again.url, again.model, again.openai.api_key) == (llm.url, llm.model, llm.openai.api_key)
    assert again.models() == [llm.model]


def test_an_endpoint_that_is_set_is_used_as_it_is(llm: LLM, use_settings: Callable[..., object]) -> None:
    key = SecretStr(str(llm.openai.api_key))
    use_settings(llm_endpoint=llm.url + "/", llm_api_key=key)
    remote = client.connect()
    assert remote.model == llm.model  # the first one that it serves, when none is named
    use_settings(llm_endpoint=llm.url, llm_api_key=key, llm_model="granite")
    with pytest.raises(LLMError, match=rf"serves {llm.model}, not granite. Set WORKSHOP_LLM_MODEL"):
        client.connect()
    use_settings(llm_endpoint=llm.url)
    with pytest.raises(LLMRefused, match="WORKSHOP_LLM_API_KEY"):
        client.connect()


# --- Against a server that fails on purpose -------------------------------------------------------


def _event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


SPECIAL = {"end": b"data: [DONE]\n\n", "error": b'data: {"error": {"message": "engine died", "code": 500}}\n\n'}


class Failing(http.server.BaseHTTPRequestHandler):
    """Answers with the next step of the plan: a status, or pieces of text and then silence or an end."""

    plan: list[object]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        step = self.plan.pop(0)
        if isinstance(step, int):
            self.send_response(step)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        assert isinstance(step, tuple)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # a client that waits no longer has gone
            for piece in step:
                if piece == "hang":
                    time.sleep(3)
                data = SPECIAL.get(piece) or _event(piece)
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            if step[-1] == "end":
                self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def failing() -> Iterator[Callable[..., LLM]]:
    servers = []

    def serve(*plan: object, **options: float) -> LLM:
        handler = type("Planned", (Failing,), {"plan": list(plan)})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        restart = "Call ./workshop up."
        return LLM(f"http://127.0.0.1:{server.server_port}/v1", "m", "key", restart=restart, **options)  # type: ignore[arg-type]

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_busy_server_is_asked_again(failing: Callable[..., LLM]) -> None:
    begun = time.perf_counter()
    assert failing(503, 429, ("hello", "end"), retries=2).chat("x").text == "hello"
    assert time.perf_counter() - begun > 0.5  # with a pause in between


def test_it_gives_up_after_the_last_attempt(failing: Callable[..., LLM]) -> None:
    with pytest.raises(LLMRefused) as caught:
        failing(503, 503, ("never", "end"), retries=1).chat("x")
    assert caught.value.status == 503


def test_a_request_at_fault_is_not_repeated(failing: Callable[..., LLM]) -> None:
    with pytest.raises(LLMRefused) as caught:
        failing(400, ("never", "end"), retries=2).chat("x")
    assert caught.value.status == 400


def test_a_server_that_dies_in_the_middle_is_named_with_its_remedy(failing: Callable[..., LLM]) -> None:
    llm = failing(("one ", "two "), retries=0)
    stream = llm.stream("x")
    with pytest.raises(LLMUnavailable, match=rf"{llm.url} does not answer\. Call \./workshop up\."):
        list(stream)
    assert stream.reply.text == "one two "  # what had come is not lost
    assert stream.reply.finish_reason == ""


def test_an_error_within_the_stream_is_named_with_its_remedy(failing: Callable[..., LLM]) -> None:
    with pytest.raises(LLMUnavailable, match=r"broke off: engine died\. Call \./workshop up"):
        failing(("one", "error", "end"), retries=0).chat("x")


def test_a_server_that_hangs_is_not_waited_for_forever(failing: Callable[..., LLM]) -> None:
    with pytest.raises(LLMUnavailable, match=r"no answer in time \(WORKSHOP_LLM_TIMEOUT\)\. Call"):
        failing(("one", "hang", "end"), timeout=0.5, retries=0).chat("x")


def test_nobody_at_the_address(free_port: Callable[[], int]) -> None:
    with pytest.raises(LLMUnavailable, match="Check WORKSHOP_LLM_ENDPOINT"):
        LLM(f"http://127.0.0.1:{free_port()}/v1", "m", "key", retries=0).models()
