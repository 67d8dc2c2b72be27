"""The dashboard as people meet it: in a browser, with services that are well, slow or away."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.orchestration.browser import (
    DESKTOP,
    FOCUS_RING,
    LOW_CONTRAST,
    NAMELESS,
    PHONE,
    PROGRAM,
    TOO_WIDE,
    Visit,
    browser,
    visit,
)  # fmt: skip
from tests.orchestration.dashboard_fakes import GOOD, INVENTED, Running, Services, dashboard
from workshop_lib.orchestration.dashboard_pictures import PATIENCE
from workshop_lib.orchestration.labels import Labels, Language
from workshop_lib.settings import ROOT

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium on this machine")
expect.set_options(timeout=PATIENCE)

TABS = ("forecast", "content", "customers", "market", "assistant", "system")
EN = Labels("en")
EVIL = (
    "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'> ![soup](http://evil.example/x.png)"
    " ${window.hacked=1} {{7*7}}"
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A dashboard over small services, behind a real socket."""
    with dashboard(tmp_path_factory.mktemp("dashboard")) as made:
        yield made


@pytest.fixture(scope="module")
def program() -> Iterator[Browser]:
    """The browser; it starts once."""
    with browser() as started:
        yield started


@pytest.fixture
def services(running: Running) -> Iterator[Services]:
    """The services behind the dashboard; well again after each test."""
    yield running.services
    running.services.mode.clear()
    running.services.text = GOOD


@pytest.fixture
def reader(running: Running, program: Browser, services: Services) -> Iterator[Visit]:
    """Somebody who opens the English page on a desktop, and leaves without a trace of another host."""
    with visit(program) as seen:
        arrive(running, seen)
        yield seen
        assert seen.hosts <= {running.host, ""}, "everything comes from the dashboard itself"
        assert seen.complaints == []


def arrive(running: Running, seen: Visit, language: Language = "en") -> None:
    """Open the page and wait for its first forecast."""
    seen.page.goto(f"{running.url}/{language}/")
    expect(seen.page.locator("#forecast-figures .card").first).to_be_visible()


def do_everything(seen: Visit, tab: str) -> None:
    """Let a tab do its work, and wait until it is done."""
    page = seen.page
    if tab == "forecast":
        expect(page.locator("#forecast-plot .js-plotly-plot .scatterlayer .trace").first).to_be_visible()
    if tab == "content":
        page.locator("#content-write").click()
        expect(page.locator("#content-texts .parts")).to_have_count(2)
    if tab == "customers":
        expect(page.locator("#customers-insight .advice")).to_be_visible()
    if tab == "market":
        expect(page.locator("#market-trends .js-plotly-plot .trace").first).to_be_visible()
        expect(page.locator("#market-seasons .js-plotly-plot .trace").first).to_be_visible()
    if tab == "assistant":
        ask(seen, "How much soup will we sell in the next 5 days?")
    if tab == "system":
        expect(page.locator("#system-services table")).to_be_visible()
        expect(page.locator("#system-scorecard")).not_to_be_empty()


def ask(seen: Visit, question: str) -> None:
    """Ask the assistant and wait for what it says."""
    answers = seen.page.locator("#assistant-chat .message.bot")
    before = answers.count()
    seen.page.locator("#assistant-question textarea").fill(question)
    seen.page.locator("#assistant-ask").click()
    expect(answers).to_have_count(before + 1)
    expect(seen.page.locator("#assistant-steps .cards")).to_be_visible()


# ---- how it looks


@pytest.mark.parametrize(
    ("size", "scheme", "language"),
    [
        pytest.param(DESKTOP, "light", "en", id="desktop-light-en"),
        pytest.param(PHONE, "dark", "es", id="phone-dark-es"),
        pytest.param(DESKTOP, "dark", "es", id="desktop-dark-es", marks=pytest.mark.long),
        pytest.param(PHONE, "light", "en", id="phone-light-en", marks=pytest.mark.long),
    ],
)
def test_every_tab_can_be_read(
    running: Running, program: Browser, services: Services, size: tuple[int, int], scheme: str, language: Language
) -> None:
    say = Labels(language)
    with visit(program, size, scheme) as seen:
        arrive(running, seen, language)
        for tab in TABS:
            seen.open_tab(say(f"{tab}.tab"))
            do_everything(seen, tab)
            seen.picture(f"{tab}-{language}-{scheme}-{size[0]}")
            assert seen.page.evaluate(TOO_WIDE) <= 0, f"{tab} scrolls sideways"
            assert seen.page.evaluate(LOW_CONTRAST) == [], tab
            assert seen.page.evaluate(NAMELESS) == [], tab
        assert seen.hosts <= {running.host, ""}
        assert seen.complaints == []


def test_dark_and_light_differ(running: Running, program: Browser, services: Services) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        with visit(program, scheme=scheme) as seen:
            arrive(running, seen)
            grounds.append(seen.page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
    light, dark = (sum(map(int, re.findall(r"\d+", color)[:3])) for color in grounds)
    assert light > 600 and dark < 150


def test_spanish_pages_say_so_and_speak_spanish(running: Running, program: Browser, services: Services) -> None:
    say = Labels("es")
    with visit(program) as seen:
        seen.page.goto(f"{running.url}/?lang=es")
        expect(seen.page.locator("#forecast-figures .card").first).to_contain_text(say("forecast.total", days=7))
        assert seen.page.url == f"{running.url}/es/"
        assert seen.page.evaluate("() => document.documentElement.lang") == "es"
        assert seen.page.get_by_role("tab").all_inner_texts() == [say(f"{tab}.tab") for tab in TABS]
        seen.page.get_by_role("link", name="English").click()
        expect(seen.page.locator("#forecast-figures .card").first).to_contain_text(EN("forecast.total", days=7))


# ---- what each tab does


def test_a_plan_changes_the_forecast_and_stands_beside_it(reader: Visit) -> None:
    page = reader.page
    figures, table = page.locator("#forecast-figures"), page.locator("#forecast-table")
    expect(figures).to_contain_text("700")
    expect(table.locator("tbody tr")).to_have_count(7)
    page.get_by_label(EN("forecast.promotion.display")).check()
    expect(figures).to_contain_text("980")  # 40% on display add 40%
    expect(figures).to_contain_text("+280")
    expect(page.locator("#forecast-plot .legendtext")).to_have_count(4)
    expect(page.locator("#forecast-plot")).to_have_attribute("aria-labelledby", "forecast-plot-text")
    page.locator("#forecast-days input[type=number]").fill("3")
    page.keyboard.press("Tab")
    expect(table.locator("tbody tr")).to_have_count(3)
    expect(figures).to_contain_text("420")


def test_the_keyboard_is_enough(reader: Visit) -> None:
    page = reader.page
    order = []
    for _ in range(12):
        page.keyboard.press("Tab")
        order.append(
            page.evaluate("() => document.activeElement.textContent.trim() || document.activeElement.ariaLabel")
        )
    assert order[0] == EN("page.other_language")
    tabs = [EN(f"{tab}.tab") for tab in TABS]
    assert [name for name in order if name in tabs] == tabs
    assert order.index(EN("forecast.category")) > order.index(tabs[-1])
    assert page.evaluate(FOCUS_RING) >= 2
    page.get_by_label(EN("forecast.category")).focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("yogurt")
    page.keyboard.press("Enter")
    expect(page.locator("#forecast-plot-text")).to_contain_text("Yogurt")


def test_texts_grow_while_they_are_written_and_are_judged(reader: Visit, services: Services) -> None:
    services.piece_seconds = 0.15
    page = reader.page
    reader.open_tab(EN("content.tab"))
    page.locator("#content-write").click()
    busy = page.locator("#content-texts blockquote[aria-busy=true]")
    expect(busy).to_contain_text("from a")
    expect(busy).not_to_contain_text("costs")
    services.piece_seconds = 0
    expect(page.locator("#content-texts .badge.good")).to_have_count(2)
    price = page.locator("#content-fact-price textarea, #content-fact-price input").input_value()
    expect(page.locator("#content-texts article").first).to_contain_text(f"costs {price}")


def test_an_invented_number_is_refused_and_shown_as_such(reader: Visit, services: Services) -> None:
    services.text = INVENTED
    reader.open_tab(EN("content.tab"))
    reader.page.get_by_label(EN("content.tone.friendly")).uncheck()
    reader.page.locator("#content-write").click()
    card = reader.page.locator("#content-texts article")
    expect(card.locator(".notice.fair")).to_contain_text("fixed wording")
    expect(card.locator("> blockquote")).not_to_contain_text("17")
    card.locator("summary").click()
    expect(card.locator("details blockquote").first).to_contain_text("17 awards")
    reader.picture("content-refused")


def test_another_product_brings_its_own_facts(reader: Visit) -> None:
    page = reader.page
    reader.open_tab(EN("content.tab"))
    fact = page.locator("#content-fact-product textarea, #content-fact-product input")
    before = fact.input_value()
    page.locator("#content-category input").click()
    page.get_by_role("option", name="Yogurt", exact=True).click()
    expect(fact).not_to_have_value(before)


def test_households_are_sorted_and_one_is_explained(reader: Visit) -> None:
    page = reader.page
    reader.open_tab(EN("customers.tab"))
    do_everything(reader, "customers")
    shares = page.locator("#customers-table tbody td:nth-child(2)").all_inner_texts()
    numbers = [int(text.strip().rstrip("%")) for text in shares]
    assert len(numbers) == 15 and numbers == sorted(numbers, reverse=True)
    chosen = page.locator("#customers-household input").input_value().split(" ")[0]
    expect(page.locator("#customers-insight h3").first).to_contain_text(chosen)
    page.get_by_label(EN("customers.order.gain")).check()
    expect(page.locator("#customers-table caption")).to_contain_text("brings most")
    expect(page.locator("#customers-table .badge.good")).to_have_count(15)


def test_an_unknown_household_gets_a_sentence(reader: Visit) -> None:
    page = reader.page
    reader.open_tab(EN("customers.tab"))
    do_everything(reader, "customers")
    page.locator("#customers-household input").fill("<b>no one</b>")
    page.keyboard.press("Enter")
    expect(page.locator("#customers-insight .notice.bad")).to_contain_text("The shop has no household")
    expect(page.locator("#customers-insight b")).to_have_count(0)


def test_a_department_has_its_own_market(reader: Visit) -> None:
    page = reader.page
    reader.open_tab(EN("market.tab"))
    do_everything(reader, "market")
    whole = page.locator("#market-trends-text").inner_text()
    page.locator("#market-department input").click()
    page.get_by_role("option", name="Produce", exact=True).click()
    expect(page.locator("#market-trends-text")).not_to_have_text(whole)
    expect(page.locator("#market-tables table").first).to_be_visible()


def test_the_assistant_answers_shows_its_steps_and_remembers(reader: Visit) -> None:
    page = reader.page
    reader.open_tab(EN("assistant.tab"))
    ask(reader, "How much soup will we sell in the next 5 days?")
    expect(page.locator("#assistant-chat .message.bot").last).to_contain_text("500 units")
    expect(page.locator("#assistant-steps")).to_contain_text(EN("assistant.chain.product"))
    assert page.locator("#assistant-steps li").count() >= 4
    ask(reader, "And for the next 3 days?")
    expect(page.locator("#assistant-chat .message.bot").last).to_contain_text("300 units")
    page.reload()
    reader.open_tab(EN("assistant.tab"))
    expect(page.locator("#assistant-chat .message.bot")).to_have_count(2)
    page.locator("#assistant-new").click()
    expect(page.locator("#assistant-chat .message.bot")).to_have_count(0)


def test_readers_do_not_see_each_others_conversations(running: Running, program: Browser, reader: Visit) -> None:
    reader.open_tab(EN("assistant.tab"))
    ask(reader, "How much soup will we sell in the next 5 days?")
    with visit(program) as other:
        arrive(running, other)
        other.open_tab(EN("assistant.tab"))
        ask(other, "And for the next 3 days?")
        expect(other.page.locator("#assistant-chat .message.bot")).not_to_contain_text("300 units")
        expect(other.page.locator("#assistant-chat")).not_to_contain_text("soup")


# ---- when a service is away


@pytest.mark.parametrize(
    "name", ["api", *(pytest.param(name, marks=pytest.mark.long) for name in ("forecaster", "llm"))]
)
def test_a_service_that_is_down_is_shown_within_seconds(reader: Visit, services: Services, name: str) -> None:
    reader.open_tab(EN("system.tab"))
    expect(reader.page.locator("#state .badge.good")).to_be_visible()
    services.mode[name] = "error"
    row = reader.page.locator("#system-services tbody tr", has_text=EN(f"system.name.{name}"))
    expect(row.locator(".badge.bad")).to_be_visible(timeout=15_000)
    expect(reader.page.locator("#state")).to_contain_text(EN(f"system.name.{name}"))
    expect(reader.page.locator("#system-services .notice.bad").first).to_contain_text(EN(f"system.name.{name}"))
    reader.picture(f"system-{name}-down")
    services.mode.clear()
    expect(reader.page.locator("#state .badge.good")).to_be_visible(timeout=15_000)


def test_without_the_api_the_last_known_forecast_is_marked(reader: Visit, services: Services) -> None:
    services.mode["api"] = "error"
    reader.page.get_by_label(EN("forecast.promotion.none")).check()  # never asked before
    notice = reader.page.locator("#forecast-notice .notice")
    expect(notice).to_contain_text("nothing to show")
    expect(reader.page.locator("#forecast-figures .card")).to_have_count(0)
    reader.picture("forecast-missing")
    reader.page.get_by_label(EN("forecast.promotion.as_is")).check()
    expect(notice).to_contain_text("the last known answer")
    expect(notice).to_contain_text(re.compile(r"\d+ (second|minute)s? old"))
    expect(reader.page.locator("#forecast-figures")).to_contain_text("700")
    reader.picture("forecast-last-known")


def test_without_the_language_model_texts_are_marked_wordings(reader: Visit, services: Services) -> None:
    services.mode["llm"] = "error"
    reader.open_tab(EN("content.tab"))
    reader.page.locator("#content-write").click()
    expect(reader.page.locator("#content-texts .notice.fair").first).to_contain_text("fixed wording")
    expect(reader.page.locator("#content-texts .parts")).to_have_count(2)


# ---- what people and models may put in


def test_text_from_outside_is_shown_and_does_nothing(reader: Visit, services: Services) -> None:
    page = reader.page
    services.text = f"{{product}} {EVIL.replace('{', '{{').replace('}', '}}')}"
    reader.open_tab(EN("content.tab"))
    page.locator("#content-fact-product textarea, #content-fact-product input").fill(EVIL)
    page.locator("#content-write").click()
    expect(page.locator("#content-texts .parts")).to_have_count(2)
    for fold in page.locator("#content-texts summary").all():
        fold.click()
    expect(page.locator("#content-texts")).to_contain_text("<script>window.hacked=1</script>")
    expect(page.locator("#content-texts")).to_contain_text("${window.hacked=1} {{7*7}}")
    reader.open_tab(EN("assistant.tab"))
    ask(reader, EVIL)
    expect(page.locator("#assistant-chat .message.reader")).to_contain_text("![soup](http://evil.example/x.png)")
    assert page.evaluate("() => window.hacked") is None
    assert page.locator("#content-texts img, #assistant-chat img").count() == 0


def test_a_category_of_the_law_is_left_to_people(reader: Visit) -> None:
    reader.open_tab(EN("content.tab"))
    reader.page.locator("#content-fact-product textarea, #content-fact-product input").fill("red wine")
    reader.page.locator("#content-write").click()
    expect(reader.page.locator("#content-texts .notice.bad")).to_contain_text("a person writes that text")


# ---- login


def test_a_login_page_stands_before_everything(
    running: Running, program: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with dashboard(tmp_path_factory.mktemp("login"), login=("ana", "two words"), like=running) as closed:
        for scheme in ("light", "dark"):
            with visit(program, scheme=scheme) as seen:
                page = seen.page
                page.goto(f"{closed.url}/es/")
                assert page.url.startswith(f"{closed.url}/login")
                assert page.evaluate(LOW_CONTRAST) == [] and page.evaluate(NAMELESS) == []
                seen.picture(f"login-es-{scheme}")
                page.get_by_label("Usuario").fill("ana")
                page.get_by_label("Contraseña").fill("wrong")
                page.keyboard.press("Enter")
                expect(page.get_by_role("alert")).to_contain_text("no coinciden")
                page.get_by_label("Usuario").fill("ana")
                page.get_by_label("Contraseña").fill("two words")
                page.keyboard.press("Enter")
                expect(page.locator("#forecast-figures .card").first).to_be_visible()
                page.get_by_role("button", name="Salir").click()
                page.goto(f"{closed.url}/en/")
                assert page.url.startswith(f"{closed.url}/login")
                assert seen.hosts == {closed.host}


def test_screenshots_are_no_part_of_the_course() -> None:
    assert "generated" in (ROOT / ".gitignore").read_text(encoding="utf-8")
