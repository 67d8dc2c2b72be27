"""Who answers: shares, rules and the file that says so."""

import itertools
import json
import threading
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from workshop_lib.serving import routing
from workshop_lib.serving.routing import (
    Backend,
    Router,
    Routes,
    RoutesError,
    Rule,
    default_routes,
    read_routes,
    set_weights,
    write_routes,
)

KEYS = [f"request-{number}" for number in range(4000)]


def routes(**weights: float) -> Routes:
    """Backends by name and weight."""
    return Routes(
        backends=tuple(Backend(name=name, url=f"http://{name}:1", weight=weight) for name, weight in weights.items())
    )


def chosen(of: Routes) -> dict[str, str]:
    return {key: of.choose(key).name for key in KEYS}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "services" / "routes.json"


# --- Choosing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [{"blue": 90, "green": 10}, {"blue": 1, "green": 3}, {"a": 1, "b": 1, "c": 2}])
def test_shares_follow_the_weights(weights: dict[str, float]) -> None:
    counts = Counter(chosen(routes(**weights)).values())
    for name, weight in weights.items():
        assert counts[name] / len(KEYS) == pytest.approx(weight / sum(weights.values()), abs=0.03)


@pytest.mark.parametrize("order", [("blue", "green"), ("green", "blue")])
def test_a_weight_of_zero_gets_nothing(order: tuple[str, str]) -> None:
    weights = {"blue": 100, "green": 0}
    assert set(chosen(routes(**{name: weights[name] for name in order})).values()) == {"blue"}


def test_the_same_key_always_gets_the_same_backend() -> None:
    assert chosen(routes(blue=50, green=50)) == chosen(routes(blue=50, green=50))
    assert chosen(routes(blue=5, green=5)) == chosen(routes(blue=50, green=50))


def test_who_has_the_new_version_keeps_it_when_its_share_grows() -> None:
    steps = [chosen(routes(blue=100 - share, green=share)) for share in (10, 25, 50, 100)]
    for before, after in itertools.pairwise(steps):
        assert all(after[key] == "green" for key, name in before.items() if name == "green")


def test_rules_come_before_weights() -> None:
    one = routes(blue=100, green=0).model_copy(
        update={"rules": (Rule(backend="green", categories=frozenset({"YOGURT"})),)}
    )
    assert {one.choose(key, "YOGURT").name for key in KEYS} == {"green"}
    assert {one.choose(key, "BEEF").name for key in KEYS} == {"blue"}
    assert {one.choose(key).name for key in KEYS} == {"blue"}


def test_the_last_point_of_all_still_finds_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "_point", lambda key: 1.0)  # beyond what it can be, as rounding may make it
    assert routes(blue=0.1, green=0.2, red=0).choose("any").name == "green"


# --- What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"backends": []}, "backends"),
        ({"backends": [{"name": "a", "url": "http://a"}, {"name": "a", "url": "http://b"}]}, "names must differ"),
        ({"backends": [{"name": "a", "url": "http://a", "weight": 0}]}, "above 0"),
        ({"backends": [{"name": "a", "url": "http://a", "weight": -1}]}, "backends.0.weight"),
        ({"backends": [{"name": "a", "url": "a:80"}]}, "backends.0.url"),
        ({"backends": [{"name": "a", "url": "http://a", "wieght": 3}]}, "backends.0.wieght"),
        ({"backends": [{"name": "a", "url": "http://a"}], "rules": [{"backend": "b", "categories": []}]}, "called b"),
    ],
)
def test_a_wrong_file_is_refused_by_name(file: Path, wrong: object, names: str) -> None:
    file.parent.mkdir()
    file.write_text(json.dumps(wrong))
    with pytest.raises(RoutesError, match=names):
        read_routes(file)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"backends": [{"name": "a", "url": "http://a", "weight": NaN}]}'])
def test_a_file_that_is_no_routes_at_all_is_refused(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(RoutesError, match=file.name):
        read_routes(file)


@pytest.mark.parametrize("weight", [float("inf"), float("nan")])
def test_a_weight_is_a_finite_number(weight: float) -> None:
    with pytest.raises(ValidationError, match="weight"):
        Backend(name="a", url="http://a", weight=weight)


# --- The file ---------------------------------------------------------------------------------------


def test_what_is_written_is_read_again(file: Path) -> None:
    written = Routes(
        backends=routes(blue=3, green=1).backends,
        rules=(Rule(backend="green", categories=frozenset({"BEEF", "YOGURT"})),),
        shadow=Backend(name="shade", url="http://shade:1"),
    )
    write_routes(written, file)
    assert read_routes(file) == written


def test_without_a_file_all_goes_to_the_local_server_or_the_endpoint(file: Path, use_settings) -> None:  # type: ignore[no-untyped-def]
    changed = use_settings(forecaster_port=8299, forecaster_endpoint=None)
    assert [backend.url for backend in read_routes(file).backends] == ["http://127.0.0.1:8299"]
    use_settings(forecaster_endpoint="https://forecaster.example/")
    assert [backend.url for backend in default_routes().backends] == ["https://forecaster.example"]
    assert changed.routes_file.name == "routes.json"


def test_readers_see_the_old_file_or_the_new_one(file: Path) -> None:
    write_routes(routes(blue=100, green=0), file)
    stopped, seen = threading.Event(), set()

    def write() -> None:
        while not stopped.is_set():
            write_routes(routes(blue=0, green=100), file)
            write_routes(routes(blue=100, green=0), file)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            seen.add(tuple(backend.weight for backend in read_routes(file).backends))
    finally:
        stopped.set()
        writer.join()
    assert seen <= {(100, 0), (0, 100)}


def test_set_weights_changes_shares_and_nothing_else(file: Path) -> None:
    before = Routes(
        backends=routes(blue=100, green=0).backends,
        rules=(Rule(backend="green", categories=frozenset({"BEEF"})),),
        shadow=Backend(name="shade", url="http://shade:1"),
    )
    write_routes(before, file)
    after = set_weights({"green": 25}, file)
    assert after == read_routes(file)
    assert [(backend.name, backend.weight) for backend in after.backends] == [("blue", 100), ("green", 25)]
    assert (after.rules, after.shadow) == (before.rules, before.shadow)


@pytest.mark.parametrize("weights", [{"pink": 1}, {"blue": 0}, {"blue": -1}])
def test_set_weights_leaves_the_file_when_it_refuses(file: Path, weights: dict[str, float]) -> None:
    write_routes(routes(blue=100, green=0), file)
    before = file.read_bytes()
    with pytest.raises(RoutesError):
        set_weights(weights, file)
    assert file.read_bytes() == before


# --- The router -------------------------------------------------------------------------------------


def test_a_router_reads_every_change(file: Path) -> None:
    write_routes(routes(blue=100, green=0), file)
    router = Router(file)
    for share in (0, 100, 0, 100):
        write_routes(routes(blue=100 - share, green=share), file)
        assert router.choose("any").name == ("green" if share else "blue")


def test_a_router_reads_an_unchanged_file_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_routes(routes(blue=100), file)
    router = Router(file)
    monkeypatch.setattr(routing, "read_routes", lambda path: pytest.fail("read again"))
    assert router.choose("any").name == "blue"


def test_a_change_while_the_router_starts_is_not_lost(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_routes(routes(blue=100), file)

    def read_and_change(path: Path) -> Routes:
        found = read_routes(path)
        write_routes(routes(green=100), file)
        return found

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(routing, "read_routes", read_and_change)
        router = Router(file)
    assert router.choose("any").name == "green"


def test_a_broken_file_leaves_the_last_good_routes_in_force(file: Path) -> None:
    write_routes(routes(blue=100), file)
    router = Router(file)
    file.write_text("{")
    assert router.choose("any").name == "blue"
    assert str(file) in router.problem
    write_routes(routes(green=100), file)
    assert (router.choose("any").name, router.problem) == ("green", "")


def test_a_file_that_goes_away_gives_way_to_the_default(file: Path) -> None:
    write_routes(routes(blue=100), file)
    router = Router(file)
    file.unlink()
    assert router.choose("any").name == default_routes().backends[0].name
