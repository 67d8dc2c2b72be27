"""Dashboards: up to date, with the limits of the configuration, and every panel shows data of the real services."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import yaml

from tests.monitoring.dashboard_stand import RECORDED, watched
from tests.monitoring.prometheus_tools import skip_without
from workshop_lib.monitoring import grafana
from workshop_lib.monitoring.alerts import rules
from workshop_lib.monitoring.config import load_config
from workshop_lib.monitoring.panels import (
    Dashboard,
    Limit,
    Panel,
    Query,
    Row,
    _draw_lines,
    draw,
    heading,
    is_bad,
    legend,
    series,
    written,
)
from workshop_lib.monitoring.panels_catalogue import NAMES, dashboard
from workshop_lib.monitoring.prometheus import LocalPrometheus
from workshop_lib.optimization.autoscaling import read_policy
from workshop_lib.settings import settings

PANELS = [(name, panel) for name in NAMES for panel in dashboard(name).panels]
every_dashboard = pytest.mark.parametrize("name", NAMES)
every_panel = pytest.mark.parametrize(("name", "panel"), PANELS, ids=[f"{name}: {one.title}" for name, one in PANELS])


# ---- the files


def test_the_checked_in_dashboards_are_up_to_date() -> None:
    assert grafana.main([]) == 0


def test_no_other_file_lies_beside_them() -> None:
    assert {path.stem for path in grafana.FOLDER.iterdir()} == set(NAMES)


@every_dashboard
def test_grafana_gets_what_the_catalogue_says(name: str) -> None:
    page = json.loads((grafana.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    shown, panels = dashboard(name), [panel for panel in page["panels"] if panel["type"] != "row"]
    assert page["title"] == shown.title and page["uid"] == f"shop-{name}"
    assert [panel["title"] for panel in panels] == [panel.title for panel in shown.panels]
    assert [[target["expr"] for target in panel["targets"]] for panel in panels] == [
        [query.expression for query in panel.queries] for panel in shown.panels
    ]
    assert len({panel["id"] for panel in page["panels"]}) == len(page["panels"])
    assert all(panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"} for panel in panels)


@every_dashboard
def test_panels_do_not_lie_on_each_other(name: str) -> None:
    page = json.loads((grafana.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in page["panels"]:
        place = panel["gridPos"]
        fields = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                  for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not fields & taken and place["x"] + place["w"] <= 24
        taken |= fields


def test_a_limit_that_changes_is_seen_everywhere(tmp_path: Path) -> None:
    text = Path(settings.monitoring_config).read_text(encoding="utf-8")
    assert re.search(r"p95_seconds: 0.1\b", text)
    (tmp_path / "limits.yaml").write_text(re.sub(r"p95_seconds: 0.1\b", "p95_seconds: 0.05", text))
    config = load_config(tmp_path / "limits.yaml")
    page = json.loads(grafana.to_json(dashboard("forecaster", config)))
    panel = next(one for one in page["panels"] if one["title"].startswith("95%"))
    assert [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]] == [None, 0.05]
    assert 'le=\\"0.05\\"' in grafana.to_json(dashboard("objectives", config))
    assert grafana.files(config) != grafana.files(load_config())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("length", [5, 40, 100, 119, 300, 7000, 90000])
def test_every_length_of_time_has_a_few_ticks(length: int) -> None:
    begin = pd.Timestamp("2026-01-05 09:13:07")
    times = [begin, begin + pd.Timedelta(length, "s")]
    figure, axis = plt.subplots()
    _draw_lines(axis, Panel("x", "share", ()), pd.DataFrame({"series": "x", "time": times, "value": [0.1, 0.2]}))
    figure.canvas.draw()
    shown = [tick for tick in axis.get_xticks() if axis.get_xlim()[0] <= tick <= axis.get_xlim()[1]]
    assert 2 <= len(shown) <= 6
    plt.close(figure)


def test_every_limit_names_its_field() -> None:
    config = load_config().model_dump(by_alias=True)
    for name, panel in PANELS:
        for limit in panel.limits:
            value: Any = config
            for field in limit.name.split(",")[0].split("."):
                assert field in value, f"{name}, {panel.title}: {limit.name}"
                value = value[field]
            if isinstance(value, float) and limit.name != "objectives.availability":
                assert value == limit.value


def test_colours_say_on_which_side_trouble_is() -> None:
    panel = Panel("x", "share", (Query("up"),), (Limit(0.3, "below", "a"), Limit(0.9, "above", "b")))
    steps = grafana._thresholds(panel).build().steps
    assert [(step.value, step.color) for step in steps] == [(None, "red"), (0.3, "green"), (0.9, "red")]
    assert is_bad(panel.limits[0], 0.2) and not is_bad(panel.limits[0], 0.3) and is_bad(panel.limits[1], 1)


def test_a_file_that_is_out_of_date_is_named_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(grafana, "FOLDER", tmp_path)
    assert grafana.main([]) == 1
    assert "forecaster.json is out of date. Run: python -m" in capsys.readouterr().err
    assert grafana.main(["--write"]) == 0
    assert grafana.main([]) == 0


def test_a_dashboard_that_is_none() -> None:
    with pytest.raises(KeyError, match="no dashboard 'sales'; there are forecaster"):
        dashboard("sales")


# ---- the questions


def test_every_question_is_promql(tmp_path: Path) -> None:
    skip_without("promtool")
    asked = [query.expression for _, panel in PANELS for query in panel.queries]
    group = {"name": "panels", "rules": [{"record": f"panel:{n}", "expr": text} for n, text in enumerate(asked)]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [group]}))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not any("$" in text for text in asked)  # nothing that only Grafana understands


def test_recorded_names_are_those_of_the_rules() -> None:
    recorded = {
        rule["record"] for group in rules(load_config())["groups"] for rule in group["rules"] if "record" in rule
    }
    used = {name for _, panel in PANELS for query in panel.queries
            for name in re.findall(r"workshop:[\w:]+", query.expression)}  # fmt: skip
    assert used and used <= recorded


# ---- the answers


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPrometheus]:
    skip_without("prometheus")
    with watched(tmp_path_factory.mktemp("dashboards")) as found:
        yield found


@every_panel
def test_every_panel_shows_data(name: str, panel: Panel, prometheus: LocalPrometheus) -> None:
    for query in panel.queries:
        found = prometheus.query(query.expression)
        if panel.only_with == "a GPU":
            assert found.empty  # there is none here: that the question is understood is all that can be seen
            continue
        assert not found.empty and all(map(math.isfinite, found["value"])), query.expression
        names = [legend(query, labels) for labels in found.to_dict("records")]
        assert len(set(names)) == len(names) and all(name.strip(" ,") for name in names)


def test_what_is_shown_is_what_happened(prometheus: LocalPrometheus) -> None:
    shown = {panel.title: panel for _, panel in PANELS}
    coupons = series(shown["Coupons redeemed"], prometheus).set_index("series")["value"]
    assert coupons["A"] == pytest.approx(0.5) and coupons["B"] == 0
    bought = series(shown["Suggestions that were bought"], prometheus, hours=0.05).groupby("series")["value"].last()
    assert bought["new"] == pytest.approx(1 / 8) and bought["again"] == pytest.approx(1 / 4)
    ratings = series(shown["Rating of texts, mean"], prometheus, hours=0.05).groupby("series")["value"].last()
    assert ratings.to_dict() == pytest.approx({"person": 4, "machine": 3})
    drift = series(shown["Drift of the inputs"], prometheus).set_index("series")["value"]
    assert set(drift.index) == set(load_config().forecaster.drift.features)
    if prometheus.query('api_requests_total{status=~"5.."}').empty:  # a busy machine may be too slow for one
        burns = series(shown["Budget of failed requests burns"], prometheus, hours=0.05)
        assert len(burns) and (burns["value"] == 0).all()  # nothing failed, and that is shown as well


def test_the_autoscalers_questions_have_answers(prometheus: LocalPrometheus) -> None:
    queue, waits, _ = read_policy("llm").metrics
    for metric in (queue, waits):
        query = metric.query.replace("granite-3.1-8b-instruct", "smollm2-135m-instruct")
        assert query != metric.query and not prometheus.query(query).empty


@every_dashboard
def test_the_same_panels_are_drawn(name: str, prometheus: LocalPrometheus) -> None:
    shown = dashboard(name)
    figure = draw(shown, prometheus, hours=0.05)
    axes = [axis for part in figure.subfigs for axis in part.axes if axis.axison]
    assert [axis.get_title("left") or axis.get_title() for axis in axes] == [heading(panel) for panel in shown.panels]
    empty = {text.get_text() for axis in axes for text in axis.texts} & {"no data"}
    assert not empty
    plt.close(figure)


def test_some_rows_are_drawn_alone(prometheus: LocalPrometheus) -> None:
    shown = dashboard("forecaster")
    figure = draw(shown, prometheus, 0.05, rows=["Does it answer?"])
    assert sum(axis.axison for part in figure.subfigs for axis in part.axes) == 3
    plt.close(figure)
    with pytest.raises(ValueError, match="The rows are Does it answer"):
        draw(shown, prometheus, 0.05, rows=["Nonsense"])


def test_a_panel_without_data_says_so(prometheus: LocalPrometheus) -> None:
    nothing = Panel("Nothing", "number", (Query("no_such_metric"),))
    gpu = Panel("GPU", "share", (Query("no_such_metric"),), only_with="a GPU")
    nan, infinite = (Panel("Nothing", "number", (Query(f"vector({value}) / 0"),)) for value in (0, 1))
    assert series(nan, prometheus, 0.05).empty and series(infinite, prometheus, 0.05).empty
    figure = draw(Dashboard("x", "X", (Row("Row", (nothing, gpu)),)), prometheus, 0.05)
    words = [text.get_text() for part in figure.subfigs for axis in part.axes for text in axis.texts]
    assert words == ["no data", "only with a GPU"]
    plt.close(figure)


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [(0.123, "share", "12.3%"), (0.0042, "seconds", "4.2 ms"), (2, "seconds", "2 s"), (1234.5, "number", "1,234"),
     (0.25, "per second", "0.25")],
)  # fmt: skip
def test_values_are_written_for_readers(value: float, unit: Any, said: str) -> None:
    assert written(value, unit) == said


def test_the_recording_says_where_it_comes_from() -> None:
    about = RECORDED.with_name("README.md").read_text(encoding="utf-8")
    assert "vLLM" in about and RECORDED.name in about
