"""What the dashboard's tabs say, its door, and its start; without a browser."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from markupsafe import Markup
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from tests.orchestration.dashboard_fakes import GOOD, INVENTED, Services, parts_for, services
from workshop_lib import NO_TELEMETRY, processes
from workshop_lib.orchestration import dashboard_content as content
from workshop_lib.orchestration import dashboard_customers as customers
from workshop_lib.orchestration import dashboard_forecast as forecast
from workshop_lib.orchestration import dashboard_login, dashboard_page, dashboard_steps, dashboard_system
from workshop_lib.orchestration.dashboard_login import Door, Login, LoginError, login_of
from workshop_lib.orchestration.dashboard_parts import Parts
from workshop_lib.orchestration.health import Calls, Health
from workshop_lib.orchestration.labels import Labels
from workshop_lib.orchestration.local import dashboard_service
from workshop_lib.orchestration.results import Source
from workshop_lib.orchestration.shop import UnknownThing
from workshop_lib.settings import ROOT, Settings

EN, ES = Labels("en"), Labels("es")
EVIL = "<img src=x onerror=alert(1)> ![x](http://evil.example) ${alert(1)}"


@pytest.fixture(scope="module")
def behaviour() -> Iterator[Services]:
    """The services behind the tabs."""
    with services() as made:
        yield made


@pytest.fixture(scope="module")
def loaded(behaviour: Services, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Everything that tabs ask, over those services."""
    return parts_for(behaviour, tmp_path_factory.mktemp("parts"))


@pytest.fixture
def parts(loaded: Parts, behaviour: Services) -> Iterator[Parts]:
    """The same; the services are well again afterwards."""
    yield loaded
    behaviour.mode.clear()
    behaviour.text = GOOD
    behaviour.asked.clear()


def text_of(html: str) -> str:
    """What a reader sees of HTML."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


# ---- forecast


def test_a_forecast_has_its_history_and_its_total(parts: Parts) -> None:
    outlook = forecast.look_ahead(parts, "soup", 3, "as_is", 40, 0)
    assert outlook.plan is not None and outlook.plan.total == 300
    assert outlook.as_is is None, "nothing is planned"
    assert len(outlook.history) == forecast.HISTORY_DAYS
    assert outlook.history.index[-1] == parts.shop.last_day
    assert outlook.plan.days[0].date == (parts.shop.last_day + pd.Timedelta(days=1)).date()


@pytest.mark.parametrize(
    ("promotion", "shares"),
    [
        ("none", (0.0, 0.0, 0.0)),
        ("display", (0.3, 0.0, 0.0)),
        ("mailer", (0.0, 0.3, 0.0)),
        ("front_page", (0.0, 0.3, 0.3)),
        ("everywhere", (0.3, 0.3, 0.3)),
    ],
)
def test_a_plan_is_asked_in_full_and_beside_it_the_week_as_it_is(
    parts: Parts, behaviour: Services, promotion: str, shares: tuple[float, ...]
) -> None:
    outlook = forecast.look_ahead(parts, "SOUP", 2, promotion, 30, -10)
    planned, as_is = (body for path, body in behaviour.asked if path == "/forecast")
    assert tuple(planned["promotion"].values()) == shares
    assert planned["price"] == round(outlook.price * 0.9, 2) == outlook.planned_price
    assert set(as_is) == {"category", "dates"}
    assert outlook.plan is not None and outlook.as_is is not None
    assert outlook.plan.total != outlook.as_is.total


@pytest.mark.parametrize("say", [EN, ES], ids=["en", "es"])
def test_the_forecast_is_shown_in_words_numbers_and_lines(parts: Parts, say: Labels) -> None:
    outlook = forecast.look_ahead(parts, "SOUP", 7, "display", 50, 0, say.language)
    warning, figures, plot, sentence, rest = forecast.view(say, outlook)
    assert warning == ""
    assert say.number(1050) in text_of(figures) and say.change(0.5) in text_of(figures)
    assert [line.name for line in plot.data if line.name][-2:] == [say("forecast.as_is"), say("forecast.plan")]
    sold = next(line for line in plot.data if line.name == say("forecast.sold"))
    for line in plot.data:
        if "markers" in line.mode:
            assert min(pd.to_datetime(list(line.x))) > max(sold.x), "what was sold is no forecast"
    assert say("forecast.advice") in rest and rest.count("<tr") == 8
    assert "150" in sentence


def test_a_substitute_is_announced_with_its_age_and_reason(parts: Parts, behaviour: Services) -> None:
    forecast.look_ahead(parts, "CHEESE", 2, "as_is", 40, 0)
    behaviour.mode["api"] = "error"
    known = text_of(forecast.view(EN, forecast.look_ahead(parts, "CHEESE", 2, "as_is", 40, 0))[0])
    assert re.search(r"the last known answer, \d+ seconds? old", known) and "status 500" in known
    warning, figures, plot, *_ = forecast.view(EN, forecast.look_ahead(parts, "EGGS", 2, "as_is", 40, 0))
    assert "nothing to show" in text_of(warning) and figures == "" and plot is None


def test_a_half_known_plan_is_announced_too(parts: Parts, behaviour: Services) -> None:
    """The plan was answered before; the comparison never was."""
    forecast.look_ahead(parts, "YOGURT", 2, "none", 40, 0)
    known = [body for path, body in behaviour.asked if path == "/forecast"]
    assert len(known) == 2
    behaviour.mode["api"] = "error"
    outlook = forecast.look_ahead(parts, "YOGURT", 2, "none", 40, 0)
    assert outlook.plan is not None and outlook.source.kind == "last known"


def test_a_category_that_is_not_there_is_named(parts: Parts) -> None:
    with pytest.raises(UnknownThing, match="SOUPS"):
        forecast.look_ahead(parts, "SOUPS", 1, "as_is", 40, 0)


# ---- content


FACTS = {"product": "green olives", "brand": "store brand", "size": "7 ounces", "price": "$1.99"}


def test_descriptions_come_one_after_the_other_and_are_measured(parts: Parts) -> None:
    states = [[(draft.tone, draft.text is not None) for draft in drafts] for drafts in content.write(
        parts, FACTS, ["plain", "formal"])]  # fmt: skip
    assert states[0] == [("plain", False)]
    assert ("formal", False) in states[len(states) // 2 + 1]
    *_, drafts = content.write(parts, FACTS, ["plain", "formal"])
    assert [draft.tone for draft in drafts] == ["plain", "formal"]
    for draft in drafts:
        assert draft.text is not None and draft.text.source.kind == "model" and "$1.99" in draft.text.text
        assert draft.quality is not None and draft.quality.facts == 1 and draft.quality.truth == 1


def test_a_tone_reaches_the_model(parts: Parts, behaviour: Services) -> None:
    list(content.write(parts, FACTS, ["formal"]))
    (body,) = [body for path, body in behaviour.asked if path.endswith("/completions")]
    assert "The tone is formal." in body["messages"][0]["content"]


def test_a_refused_text_is_kept_apart_with_its_reason(parts: Parts, behaviour: Services) -> None:
    behaviour.text = INVENTED
    *_, (draft,) = content.write(parts, FACTS, ["plain"])
    assert draft.text is not None and draft.text.source.kind == "template"
    assert len(draft.refused) == 2 and all("17 awards" in text for text in draft.refused)
    card = text_of(content.view(EN, [draft]))
    assert "fixed wording" in card and "Refused texts: 2" in card and "17" in card


def test_spanish_texts_are_fixed_wordings(parts: Parts, behaviour: Services) -> None:
    *_, (draft,) = content.write(parts, FACTS, ["plain"], "es")
    assert (
        draft.text is not None and draft.text.text == "Green olives, marca propia. Contenido: 7 onzas. Precio: 1,99 $."
    )
    assert not [path for path, _ in behaviour.asked if path.endswith("/completions")]
    card = text_of(content.view(ES, [draft]))
    assert "Precio: 1,99 $." in card and draft.quality is None, "the measure reads English only"
    assert ES("content.writing") not in card and ES("content.quality.truth") not in card


def test_products_are_the_best_sellers_of_their_category(parts: Parts) -> None:
    offered = content.best_sellers(parts, "SOUP")
    units = [parts.shop.find_product(number)["units"] for _, number in offered]
    assert len(offered) == content.OFFERED_PRODUCTS and units == sorted(units, reverse=True)
    assert dict(zip(content.FACTS, content.known_facts(parts, offered[0][1]), strict=True))["product"]
    assert not any(re.search("WINE|BEER", name) for name in content.categories(parts))


# ---- customers


def test_households_come_with_what_a_contact_is_worth(parts: Parts) -> None:
    table = customers.at_risk(parts)
    assert table["probability"].is_monotonic_decreasing and len(table) > 2000
    assert table[["recency_days", "gain"]].notna().all().all()
    first = text_of(customers.list_view(EN, table, 5, "gain"))
    assert EN.dollars(float(table["gain"].max())) in first


def test_an_insight_says_what_is_missing(parts: Parts, behaviour: Services) -> None:
    behaviour.mode["api"] = "error"
    found = parts.customer.invoke({"household_id": 7})
    shown = text_of(customers.insight_view(EN, found))
    assert "Probability of leaving: nothing to show" in shown and "Household 7" in shown


# ---- steps


def test_a_chain_is_followed_step_by_step(parts: Parts) -> None:
    *tables, found = dashboard_steps.follow(parts.customer, {"household_id": 7})
    assert found.household_id == 7
    shown = text_of(dashboard_steps.view(ES, tables[-1], running=False))
    assert "compras" in shown and " ms" in shown


def test_what_a_chain_raises_arrives(parts: Parts) -> None:
    with pytest.raises(UnknownThing):
        list(dashboard_steps.follow(parts.customer, {"household_id": "nobody"}))


# ---- system


@pytest.mark.parametrize("say", [EN, ES], ids=["en", "es"])
def test_each_state_of_a_service_has_words(say: Labels) -> None:
    found = [
        Health("forecaster", "down", "refused", "connection refused"),
        Health("api", "degraded", "reported", "language model: away", 12.0),
        Health("llm", "down", "slow", local=False),
        Health("mlflow", "off", "refused"),
    ]
    shown = text_of(dashboard_system.services(say, found))
    assert "./workshop up forecaster" in shown and "oc get pods" in shown and "language model: away" in shown
    for state in ("down", "degraded", "off"):
        assert say(f"system.state.{state}") in shown
    line = text_of(dashboard_system.strip(say, found))
    assert say("system.without.forecaster") in line and say("system.name.mlflow") not in line
    assert say("system.all_well") in dashboard_system.strip(say, [Health("api", "ok", "", "", 3.0)])


def test_many_readers_ask_the_services_once(parts: Parts, behaviour: Services) -> None:
    watch = dashboard_system.Watch(parts.targets)
    for _ in range(20):
        watch.now()
    assert [path for path, _ in behaviour.asked].count("/health/ready") == 1


def test_the_scorecard_shows_what_was_missed(home: Path) -> None:
    from workshop_lib.checkpoints import at_least, checkpoint

    assert EN("system.score.empty") in dashboard_system.scorecard(EN, "")
    checkpoint("1.1", "Data", [at_least("a.b", 0.9, 0.8, "share <b>"), at_least("a.c", 1, 2, "speed", speed=True)])
    whole = dashboard_system.scorecard(EN, "")
    assert "1 / 2" in text_of(whole) and "speed" in whole and "share" not in whole
    assert "share &lt;b&gt;" in dashboard_system.scorecard(EN, "1-predictive")
    (home / "scorecard.json").write_text("nonsense", encoding="utf-8")
    assert "not a scorecard" in dashboard_system.scorecard(EN, "")


def test_calls_that_were_never_made_have_no_times() -> None:
    assert "nan" not in dashboard_system.recent_calls(EN, Calls()).lower()


# ---- HTML


def test_nothing_from_outside_becomes_html() -> None:
    pieces = [
        dashboard_page.table(EVIL, [EVIL], [[EVIL]]), dashboard_page.cards([(EVIL, EVIL, EVIL)]),
        dashboard_page.notice("bad", EVIL, EVIL), dashboard_page.advice(EVIL, [EVIL]),
        dashboard_page.badge("bad", EVIL),
        dashboard_page.bar(0.5, EVIL), dashboard_page.fold(EVIL, dashboard_page.paragraph(EVIL)),
        dashboard_page.source_notice(EN, EVIL, Source(kind="missing", why=EVIL)), dashboard_page.error(EN, EVIL),
    ]  # fmt: skip
    for piece in pieces:
        assert isinstance(piece, Markup) and "<img" not in piece and "&lt;img" in piece


def test_a_bar_stays_within_its_bounds() -> None:
    assert "width:100%" in dashboard_page.bar(7, "") and "width:0%" in dashboard_page.bar(-1, "")


# ---- the door


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"dashboard_user": "ana"}, "WORKSHOP_DASHBOARD_PASSWORD"),
        ({"dashboard_password": SecretStr("secret")}, "WORKSHOP_DASHBOARD_USER"),
        ({"dashboard_user": "ana", "dashboard_password": SecretStr("")}, "WORKSHOP_DASHBOARD_PASSWORD"),
    ],
)
def test_half_a_login_is_an_error(given: dict[str, Any], missing: str) -> None:
    with pytest.raises(LoginError, match=f"{missing} is not set"):
        login_of(Settings(**given))


def test_no_login_is_an_open_dashboard() -> None:
    assert login_of(Settings()) is None


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """A closed door before an application that lets everybody see its secret."""
    monkeypatch.setattr(dashboard_login, "WRONG_SECONDS", 0)
    app = Starlette(
        routes=[Route("/{path:path}", lambda request: PlainTextResponse("the secret"), methods=["GET", "POST"])]
    )
    return TestClient(Door(app, Login("ana", "contraseña"), "en"), follow_redirects=False)


def enter(door: TestClient, user: str = "ana", password: str = "contraseña") -> Any:
    """Send the form."""
    return door.post("/login", data={"user": user, "password": password})


@pytest.mark.parametrize("path", ["/", "/en/", "/en/gradio_api/queue/data", "/en/config", "/loginx", "//login"])
def test_nobody_gets_in_without_a_login(door: TestClient, path: str) -> None:
    answer = door.get(path)
    assert answer.status_code == 401 and "secret" not in answer.text
    page = door.get(path, headers={"accept": "text/html"})
    assert page.status_code == 303 and page.headers["location"].startswith("/login")


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics"])
def test_probes_need_no_login(door: TestClient, path: str) -> None:
    assert door.get(path).status_code == 200


def test_the_right_words_open_and_a_logout_closes(door: TestClient) -> None:
    answer = enter(door)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie
    assert door.get("/en/").text == "the secret"
    door.post("/logout")
    assert door.get("/en/").status_code == 401


@pytest.mark.parametrize(
    ("user", "password"),
    [("ana", "wrong"), ("bob", "contraseña"), ("", ""), ("ana", ""), ("ana", "contraseña "), ("ana", "a" * 100_000)],
)
def test_wrong_words_do_not_open(door: TestClient, user: str, password: str) -> None:
    answer = enter(door, user, password)
    assert answer.status_code == 401 and "set-cookie" not in answer.headers
    assert EN("login.wrong") in answer.text


def test_a_cookie_cannot_be_made_or_stretched(door: TestClient) -> None:
    until, signature = enter(door).cookies[dashboard_login.COOKIE].strip('"').split(".")
    later = str(int(until) + 1000)
    for value in (f"{later}.{signature}", f"{until}.", until, ".", "x", f"{until}.{signature[:-1]}é", "9" * 400):
        door.cookies.clear()
        sent = [(b"cookie", f"{dashboard_login.COOKIE}={value}".encode())]
        assert door.get("/en/", headers=sent).status_code == 401, value


def test_a_login_ends(door: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = enter(door).cookies[dashboard_login.COOKIE]
    sent = {"cookie": f"{dashboard_login.COOKIE}={cookie}"}  # also by a reader whose browser keeps it for ever
    door.cookies.clear()
    assert door.get("/en/", headers=sent).status_code == 200
    now = time.time()
    monkeypatch.setattr(dashboard_login.time, "time", lambda: now + dashboard_login.HOURS * 3600 + 1)
    assert door.get("/en/", headers=sent).status_code == 401


def test_a_cookie_of_another_password_is_worth_nothing(door: TestClient) -> None:
    cookie = enter(door).cookies[dashboard_login.COOKIE]
    other = TestClient(Door(Starlette(), Login("ana", "another"), "en"))
    other.cookies.set(dashboard_login.COOKIE, cookie)
    assert other.get("/en/").status_code == 401


def test_behind_https_the_cookie_stays_there(door: TestClient) -> None:
    answer = door.post("/login", data={"user": "ana", "password": "contraseña"}, headers={"x-forwarded-proto": "https"})
    assert "secure" in answer.headers["set-cookie"].lower()


def test_every_answer_keeps_foreign_content_out(door: TestClient) -> None:
    for path in ("/health/live", "/login", "/en/"):
        policy = door.get(path).headers["content-security-policy"]
        assert "default-src 'self'" in policy and "http" not in policy


def test_the_login_page_speaks_both_languages(door: TestClient) -> None:
    assert ES("login.password") in door.get("/login?lang=es").text
    assert EN("login.password") in door.get("/login?lang=<b>").text


# ---- the process


def test_the_service_starts_within_seconds_and_reports_home_to_nobody(free_port: Any) -> None:
    """The real process, with the settings of this test run: no service behind it runs."""
    service = dashboard_service("dashboard-test", free_port())
    try:
        status = processes.start(service)
        assert status.state == "healthy"
        assert httpx.get(f"{service.url}/health/ready").status_code == 200
        assert httpx.get(f"{service.url}/", follow_redirects=True).url.path == "/en/"
        assert httpx.get(f"{service.url}/?lang=es", follow_redirects=True).url.path == "/es/"
        config = httpx.get(f"{service.url}/en/config").json()
        assert config["analytics_enabled"] is False
        assert not config.get("space_id") and not config.get("is_space")
        for path in ("/docs", "/openapi.json"):
            assert httpx.get(service.url + path).status_code == 404
        for path in ("/en/monitoring/summary", "/en/gradio_api/mcp/sse", f"/en/gradio_api/file={ROOT / 'README.md'}"):
            assert httpx.get(service.url + path).status_code >= 400, path
    finally:
        processes.stop(service)
    assert NO_TELEMETRY["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_half_a_login_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workshop_lib.orchestration.dashboard"], capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin", "WORKSHOP_HOME": str(tmp_path), "WORKSHOP_DASHBOARD_USER": "ana"}, cwd=ROOT,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "The dashboard cannot start: WORKSHOP_DASHBOARD_PASSWORD is not set. A login needs both; without both the"
        " dashboard is open."
    )
