"""The daily and the weekly summary: what Prometheus knows, on one page, for people who are in no channel.

    python -m workshop_lib.monitoring.summaries daily                                   # as text
    python -m workshop_lib.monitoring.summaries weekly --html week.html
    python -m workshop_lib.monitoring.summaries daily --send mail.shop.example:587 --to a@shop.example

An alert says that something is wrong now. A summary says how it has been: each figure stands beside that of the period
before and beside its limit.
"""

from __future__ import annotations

import smtplib
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import jinja2
import pandas as pd

from workshop_lib.files import write_text
from workshop_lib.monitoring.config import MonitoringConfig, load_config, seconds
from workshop_lib.monitoring.promql import Prometheus, PrometheusError, connect
from workshop_lib.settings import settings

PERIODS = {"daily": timedelta(days=1), "weekly": timedelta(weeks=1)}
TEMPLATE = Path(__file__).with_name("summary.html")
_UNKNOWN = "no data"
_ASKED = 'api_requests_total{path!~"/health/.*|/metrics"}'


@dataclass(frozen=True)
class Figure:
    """One line of a summary."""

    section: str
    label: str
    expression: str
    """PromQL of one number; ``$w`` stands for the period."""
    form: str = "{:,.0f}"
    """How the number is written."""
    at_least: float | None = None
    at_most: float | None = None

    def write(self, value: float) -> str:
        """A value as people read it."""
        return _UNKNOWN if pd.isna(value) else self.form.format(value)

    @property
    def limit(self) -> str:
        """The limit in words; empty where there is none."""
        if self.at_least is not None:
            return f"at least {self.form.format(self.at_least)}"
        return "" if self.at_most is None else f"at most {self.form.format(self.at_most)}"

    def missed(self, value: float) -> bool:
        """Whether a value that is known lies beyond the limit."""
        too_low = self.at_least is not None and value < self.at_least
        return too_low or (self.at_most is not None and value > self.at_most)


@dataclass(frozen=True)
class Summary:
    """What happened in a period."""

    period: str
    """``daily`` or ``weekly``."""
    end: datetime
    figures: pd.DataFrame
    """``section``, ``figure``, ``value``, ``before`` (the period before), ``limit``, ``missed`` (bool)."""
    departments: pd.DataFrame
    """The least accurate ones: ``department``, ``accuracy``."""
    services: pd.DataFrame
    """``service``, ``uptime``, and ``budget``, the share of the error budget that is left."""
    alerts: pd.DataFrame
    """What fired: ``alert``, ``service``, ``severity``, and for how many ``minutes``; the longest first."""

    @property
    def title(self) -> str:
        """The subject of the mail."""
        begin = self.end - PERIODS[self.period]
        days = f"{self.end:%d %B %Y}" if self.period == "daily" else f"{begin:%d %B} to {self.end:%d %B %Y}"
        missed = int(self.figures["missed"].sum())
        return f"The shop's models, {days}: {missed or 'no'} {'limit' if missed == 1 else 'limits'} missed"

    def html(self) -> str:
        """The page."""
        page = jinja2.Template(TEMPLATE.read_text(encoding="utf-8"), autoescape=True, trim_blocks=True)
        return page.render(summary=self, tables=self._tables(), sections=self.figures.groupby("section", sort=False))

    def text(self) -> str:
        """The same for readers of plain text."""
        shown = self.figures.drop(columns="missed").assign(missed=self.figures["missed"].map({True: "!", False: ""}))
        parts = [("", shown), *self._tables()]
        return f"{self.title}\n\n" + "\n\n".join(
            f"{title}\n{table.to_string(index=False) if len(table) else 'none'}".strip() for title, table in parts
        )

    def _tables(self) -> list[tuple[str, pd.DataFrame]]:
        return [
            ("Alerts that fired", self.alerts),
            ("Least accurate departments", self.departments),
            ("Services", self.services),
        ]


def figures(config: MonitoringConfig) -> list[Figure]:
    """The lines of a summary, with their limits."""
    quality, texts, business = config.forecaster.quality, config.generator, config.business
    of_events = 'sum(increase({0}{{event="{1}"}}[$w])) / sum(increase({0}{{event="{2}"}}[$w]))'
    p95 = "histogram_quantile(0.95, sum by (le) (increase({}_bucket[$w])))"
    share, time = "{:.1%}", "{:.3f} s"
    return [
        Figure("Forecasts", "forecasts given", 'sum(increase(api_requests_total{path="/forecast", status="200"}[$w]))'),
        Figure("Forecasts", "accuracy", f"1 - {_units('absolute_error')} / {_units('actual')}", share,
               at_least=quality.accuracy),
        Figure("Forecasts", "sales inside the interval",
               'sum(increase(forecast_days_total{inside="true"}[$w])) / sum(increase(forecast_days_total[$w]))', share,
               at_least=quality.coverage),
        Figure("Forecasts", "95% of the answers within", p95.format("api_backend_seconds"), time,
               at_most=config.forecaster.service.p95_seconds),
        Figure("Forecasts", "features that drifted", "max(max_over_time(drifted_features_ratio[$w]))", share,
               at_most=config.forecaster.drift.retrain_share),
        Figure("Texts", "tokens written", "sum(increase(vllm:generation_tokens_total[$w]))"),
        Figure("Texts", "95% of the first tokens within", p95.format("vllm:time_to_first_token_seconds"), time,
               at_most=texts.service.first_token_seconds),
        Figure("Texts", "relevance of test texts", "avg(avg_over_time(text_relevance_score[$w]))", "{:.2f}",
               at_least=texts.quality.relevance),
        Figure("Shop", "readers of texts who act", of_events.format("content_events_total", "engaged", "viewed"),
               share),
        Figure("Shop", "suggestions that are clicked", of_events.format("recommendations_total", "clicked", "shown"),
               share, at_least=business.click_rate),
        Figure("Shop", "suggestions that are bought", of_events.format("recommendations_total", "bought", "shown"),
               share),
        Figure("Shop", "rating of texts, 1 to 5",
               "sum(increase(content_rating_sum[$w])) / sum(increase(content_rating_count[$w]))", "{:.2f}",
               at_least=business.rating),
        Figure("Shop", "coupons redeemed by contact",
               "sum(increase(campaign_redemptions_total[$w])) / sum(increase(campaign_contacts_total[$w]))", "{:.2%}",
               at_least=business.redemption_rate),
        Figure("Promise", "requests", f"sum(increase({_ASKED}[$w]))"),
        Figure("Promise", "requests answered without a fault",
               f'1 - (sum(increase({_ASKED[:-1]}, status=~"5.."}}[$w])) or vector(0)) / sum(increase({_ASKED}[$w]))',
               "{:.3%}", at_least=config.objectives.availability),
    ]  # fmt: skip


def _units(kind: str) -> str:
    return f"sum(increase(forecast_{kind}_units_total[$w]))"


def summarise(
    prometheus: Prometheus,
    period: str,
    config: MonitoringConfig | None = None,
    end: datetime | None = None,
    step: str = "1m",
) -> Summary:
    """Ask Prometheus for everything that a summary says.

    Args:
        prometheus: where the metrics are.
        period: ``daily`` or ``weekly``.
        config: the limits; those of the settings by default.
        end: of the period; now by default.
        step: how finely the time of alerts is counted.

    Raises:
        KeyError: for another period.
        PrometheusError: when Prometheus does not answer.
    """
    span, end = PERIODS[period], end or datetime.now(UTC)
    window = f"{span.days}d"

    def ask(expression: str, at: datetime) -> pd.DataFrame:
        return prometheus.query(expression.replace("$w", window), at)

    def number(figure: Figure, at: datetime) -> float:
        found = ask(figure.expression, at)["value"]
        return float(found.iloc[0]) if len(found) else float("nan")

    rows = []
    for figure in figures(config or load_config()):
        value = number(figure, end)
        rows.append(
            {"section": figure.section, "figure": figure.label, "value": figure.write(value),
             "before": figure.write(number(figure, end - span)), "limit": figure.limit, "missed": figure.missed(value)}
        )  # fmt: skip
    by = "sum by (department) (increase(forecast_{}_units_total[$w]))"
    worst = ask(f"bottomk(3, 1 - {by.format('absolute_error')} / ({by.format('actual')} > 0))", end)
    uptime = ask("avg by (service) (avg_over_time(service_up[$w]))", end)
    budget = ask("min by (service) (slo_error_budget_remaining_ratio)", end)
    firing = f'count_over_time(ALERTS{{alertstate="firing"}}[$w:{step}]) * {seconds(step)} / 60'
    fired = ask(f"max by (alertname, service, severity) ({firing})", end)
    return Summary(
        period=period,
        end=end,
        figures=pd.DataFrame(rows),
        departments=_columns(worst, department="department", accuracy="value", form="{:.1%}").sort_values("accuracy"),
        services=_columns(uptime, service="service", uptime="value", form="{:.3%}").merge(
            _columns(budget, service="service", budget="value", form="{:.1%}"), how="outer", on="service"
        ).fillna(_UNKNOWN),
        alerts=_columns(
            fired.sort_values("value", ascending=False),
            alert="alertname", service="service", severity="severity", minutes="value", form="{:.1f}",
        ),
    )  # fmt: skip


def _columns(found: pd.DataFrame, form: str, **names: str) -> pd.DataFrame:
    """Some columns under other names, those of an answer without rows included; numbers as text."""
    table = found.reindex(columns=list(names.values())).set_axis(list(names), axis=1)
    numbers = [new for new, old in names.items() if old == "value"]
    return table.assign(**{name: table[name].map(form.format) for name in numbers}).reset_index(drop=True)


def send(summary: Summary, smarthost: str, to: Sequence[str]) -> None:
    """Send a summary by e-mail; over TLS, with the login of the settings, where a password is set there.

    Args:
        summary: what to send.
        smarthost: host and port of the mail server.
        to: addresses.

    Raises:
        OSError: when the server cannot be reached or refuses the mail (``smtplib.SMTPException`` is one).
    """
    sender = settings.mail_user or "summaries@localhost"
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = summary.title, sender, ", ".join(to)
    mail.set_content(summary.text())
    mail.add_alternative(summary.html(), subtype="html")
    host, _, port = smarthost.rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as server:
        if settings.mail_password:
            server.starttls()
            server.login(sender, settings.mail_password.get_secret_value())
        server.send_message(mail)


def main(arguments: list[str]) -> int:
    """Make a summary; for the command line."""
    parser = ArgumentParser(description="What the models did, from the metrics.")
    parser.add_argument("period", choices=PERIODS)
    parser.add_argument("--prometheus", metavar="URL", help="by default WORKSHOP_PROMETHEUS_URL")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the page there")
    parser.add_argument("--send", metavar="HOST:PORT", help="mail server to send it through")
    parser.add_argument("--to", default="", help="addresses, separated by commas")
    given = parser.parse_args(arguments)
    if bool(given.send) != bool(given.to):
        parser.error("--send and --to belong together")
    try:
        made = summarise(Prometheus(given.prometheus) if given.prometheus else connect(), given.period)
    except PrometheusError as error:
        print(error, file=sys.stderr)
        return 1
    if given.html:
        write_text(given.html, made.html())
    if given.send:
        try:
            send(made, given.send, given.to.split(","))
        except OSError as error:
            print(f"The mail server {given.send} did not take the summary: {error}", file=sys.stderr)
            return 1
    if not (given.html or given.send):
        print(made.text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
