"""The course's four dashboards: both models, the business, and the objectives.

Limits come from ``model_monitoring_config.yaml``. What the rules of ``prometheus_alerts.yaml`` record (names that begin
with ``workshop:``) is not computed a second time.
"""

from __future__ import annotations

from workshop_lib.monitoring.config import MonitoringConfig, load_config, seconds
from workshop_lib.monitoring.panels import Dashboard, Limit, Panel, Query, Row
from workshop_lib.serving.envelope import BUCKETS

NAMES = ("forecaster", "generator", "business", "objectives")
"""Of the dashboards, in this order."""
_BUSINESS = 'api_requests_total{path!~"/health/.*|/metrics"}'


def dashboard(name: str, config: MonitoringConfig | None = None) -> Dashboard:
    """One of the four.

    Args:
        name: of :data:`NAMES`.
        config: the limits; by default those of the file.

    Raises:
        KeyError: for another name.
    """
    makers = {"forecaster": _forecaster, "generator": _generator, "business": _business, "objectives": _objectives}
    if name not in makers:
        raise KeyError(f"There is no dashboard {name!r}; there are {', '.join(NAMES)}.")
    return makers[name](config or load_config())


def _sum(function: str, metric: str, window: str, by: str = "") -> str:
    """``sum by (labels) (rate(metric[window]))``, or with ``increase``."""
    return f"sum{f' by ({by})' if by else ''} ({function}({metric}[{window}]))"


def _one(expression: str, name: str) -> tuple[Query, ...]:
    return (Query(expression, name),)


def _forecaster(config: MonitoringConfig) -> Dashboard:
    own, window = config.forecaster, config.alerts.latency_high.window
    long = own.quality.window
    served = _sum("rate", 'http_requests_total{server="forecaster",path=~".*/infer"}', window)
    on_cluster = _sum("rate", 'ovms_requests_success{method="ModelInfer"}', window)  # OpenVINO Model Server
    calls = _sum("rate", "api_backend_requests_total", window, "backend, result")
    off = _sum("increase", "forecast_error_units_total", long, "direction")
    sold = _sum("increase", "forecast_actual_units_total", long)
    squares = _sum("increase", "forecast_squared_error_units_total", long)
    all_errors, counted = (
        _sum("increase", name, long) for name in ("forecast_error_units_total", "forecast_days_total")
    )
    days, inside = "forecast_days_total", 'forecast_days_total{inside="true"}'
    asked = (
        Panel("Forecasts asked for", "per second", (
            Query(_sum("rate", 'api_requests_total{path=~"/forecast.*"}', window), "of the business API"),
            Query(f"{served} or {on_cluster}", "of the forecaster"),
        ), (Limit(own.service.requests_per_second, "above", "forecaster.service.requests_per_second"),),
            note="The API needs one answer of the forecaster for each day ahead, unless it has kept one."),
        Panel("95% of the answers within", "seconds", _one("workshop:forecast_seconds:p95", "{{seen_by}}"),
              (Limit(own.service.p95_seconds, "above", "forecaster.service.p95_seconds"),),
              "As the forecaster sees it, and as the API that waits for it."),
        Panel("Calls to the forecaster", "per second", _one(calls, "{{backend}}, {{result}}"),
              note="Everything but ok is trouble."),
    )  # fmt: skip
    right = (
        Panel("Accuracy, worst departments", "share",
              _one("bottomk(10, workshop:forecast_accuracy:ratio)", "{{department}}"),
              (Limit(own.quality.accuracy, "below", "forecaster.quality.accuracy"),),
              "1 minus the errors over what was sold, as far as sales have come in.", "bars"),
        Panel("Mistakes, by category and day", "number", (
            Query(f"{all_errors} / {counted}", "mean absolute error"),
            Query(f"sqrt({squares} / {counted})", "root mean square"),
        ), (Limit(own.quality.mae, "above", "forecaster.quality.mae"),
            Limit(own.quality.rmse, "above", "forecaster.quality.rmse")), "Units; the second weighs large ones more."),
        Panel("Share that is explained", "number",
              _one(f"1 - {squares} / ({_sum('increase', 'forecast_squared_actual_units_total', long)} -"
                   f" {sold} ^ 2 / {counted})", "R²"),
              (Limit(own.quality.r2, "below", "forecaster.quality.r2"),),
              "Of the ups and downs of sales between categories and days."),
        Panel("Too high, too low", "share",
              _one(f"{off} / ignoring (direction) group_left () {sold}", "{{direction}}"),
              note="Units that were forecast in vain, and that were missing, over what was sold."),
        Panel("Days inside their interval", "share",
              _one(f"{_sum('increase', inside, long)} / {_sum('increase', days, long)}", "inside"),
              (Limit(own.quality.coverage, "below", "forecaster.quality.coverage"),),
              "An interval that is kept too seldom promises too much."),
        Panel("Width of the intervals", "number", _one("workshop:forecast_width:quantile", "width over forecast"),
              (Limit(own.confidence.relative_width, "above", "forecaster.confidence.relative_width"),),
              "The least certain forecasts; 1 means as wide as the forecast is high."),
        Panel("Units forecast, mean", "number", _one("workshop:forecast_units:mean", "units"),
              note="Of a category on a day. A jump means that the inputs or the model have changed."),
        Panel("Version that answers", "number", _one("max by (model) (forecaster_model_version)", "{{model}}"),
              note="In the registry.", kind="number"),
    )  # fmt: skip
    world = (
        Panel("Drift of the inputs", "number", _one('drift_distance{kind="data"}', "{{feature}}"),
              (Limit(own.drift.psi, "above", "forecaster.drift.psi"),),
              "How far each feature has moved from the training days, as population stability index.", "bars"),
        Panel("Features that drifted", "share", _one("drifted_features_ratio", "{{model}}"),
              (Limit(own.drift.watch_share, "above", "forecaster.drift.watch_share"),
               Limit(own.drift.retrain_share, "above", "forecaster.drift.retrain_share")),
              "Above the lower line somebody looks at it, above the upper one it is trained again."),
        Panel("Drift of the errors", "number", _one('drift_distance{kind="concept"}', "error now over error then"),
              (Limit(own.drift.concept, "above", "forecaster.drift.concept"),),
              "What the model has learned holds less and less when this grows."),
    )  # fmt: skip
    rows = (
        Row("Does it answer?", asked),
        Row("Is it right?", right),
        Row("Is the world still the one it knows?", world),
    )
    return Dashboard("forecaster", "Sales forecaster", rows)


def _generator(config: MonitoringConfig) -> Dashboard:
    own, window = config.generator, config.alerts.latency_high.window
    ended = _sum("rate", "vllm:request_success_total", window, "finished_reason")
    tokens = _sum("rate", "vllm:generation_tokens_total", window)
    spent = _sum("rate", "vllm:e2e_request_latency_seconds_sum", window)
    found = _sum("rate", "vllm:prefix_cache_hits_total", window)
    speed = (
        Panel("Texts", "per second",
              _one(f"{ended} > 0", "{{finished_reason}}"),
              note="By how they ended: at a natural end (stop) or cut off (length)."),
        Panel("First token, 95% within", "seconds", _one("workshop:first_token_seconds:p95", "{{model_name}}"),
              (Limit(own.service.first_token_seconds, "above", "generator.service.first_token_seconds"),),
              "How long a reader looks at an empty page."),
        Panel("Whole text, 95% within", "seconds", _one("workshop:text_seconds:p95", "{{model_name}}"),
              (Limit(own.service.response_seconds, "above", "generator.service.response_seconds"),)),
        Panel("Tokens, all texts", "per second", _one(tokens, "tokens"),
              note="What the server gets done."),
        Panel("Tokens, one text", "per second",
              _one(f"{tokens} / ({spent} > 0)", "tokens of a text"),
              (Limit(own.service.tokens_per_second, "below", "generator.service.tokens_per_second"),),
              "What one reader sees: tokens over the seconds that texts took, their wait included."),
        Panel("Requests", "number", (
            Query("sum(vllm:num_requests_running)", "at work"), Query("sum(vllm:num_requests_waiting)", "waiting"),
        ), (Limit(own.service.waiting_requests, "above", "generator.service.waiting_requests"),),
            "The limit is for those that wait. The autoscaler goes by both."),
    )  # fmt: skip
    room = (
        Panel("KV cache in use", "share", _one("max by (model_name) (vllm:kv_cache_usage_perc)", "{{model_name}}"),
              (Limit(config.alerts.memory_high.threshold, "above", "alerts.memory_high.threshold"),),
              "Memory for what the texts at work have said so far; when it is full, requests wait."),
        Panel("Prompts found in the cache", "share",
              _one(f"{found} / ({_sum('rate', 'vllm:prefix_cache_queries_total', window)} > 0)", "tokens"),
              note="Tokens of prompts that begin like an earlier one, and need not be read again."),
        Panel("GPU", "share", _one("avg by (gpu) (DCGM_FI_DEV_GPU_UTIL) / 100", "GPU {{gpu}}"),
              (Limit(own.service.gpu_utilisation, "above", "generator.service.gpu_utilisation"),),
              "Time in which it does anything at all; one text is enough for that.", only_with="a GPU"),
    )  # fmt: skip
    quality = (
        Panel("Relevance of the test text", "share", _one("text_relevance_score", "relevance"),
              (Limit(own.quality.relevance, "below", "generator.quality.relevance"),),
              "Facts of the product that the monitor's test text mentions, inventions counted off."),
        Panel("Form of the test text", "share", _one("text_coherence_score", "coherence"),
              (Limit(own.quality.coherence, "below", "generator.quality.coherence"),),
              "Sentences, length, variety."),
        Panel("Invented numbers", "number", _one("sum(increase(text_invented_numbers_total[1h]))", "in an hour"),
              note="Numbers in test texts that nobody gave."),
    )  # fmt: skip
    rows = (Row("Is it fast?", speed), Row("Has it room?", room), Row("Are its texts good?", quality))
    return Dashboard("generator", "Language model", rows)


def _business(config: MonitoringConfig) -> Dashboard:
    own, window, long = config.business, config.alerts.latency_high.window, config.alerts.engagement_drop.window
    shown, clicked, bought = (
        _sum("increase", f'recommendations_total{{event="{event}"}}', long, "list")
        for event in ("shown", "clicked", "bought")
    )
    stars, ratings = (_sum("rate", f"content_rating_{part}", long, "source") for part in ("sum", "count"))
    hits = _sum("rate", 'cache_requests_total{result="hit"}', window, "tier")
    people = (
        Panel("Suggestions that were clicked", "share",
              _one(f"{clicked} / ({shown} > 0)", "{{list}}"),
              (Limit(own.click_rate, "below", "business.click_rate"),), "Clicked over shown."),
        Panel("Suggestions that were bought", "share",
              _one(f"{bought} / ({shown} > 0)", "{{list}}"),
              note="Conversion: bought over shown."),
        Panel("Readers who act on a text", "share", _one("workshop:engagement:ratio", "engaged over viewed"),
              note="An alert compares it with the day before."),
        Panel("Rating of texts, mean", "number",
              _one(f"{stars} / ({ratings} > 0)", "{{source}}"),
              (Limit(own.rating, "below", "business.rating"),), "From 1 to 5, by people or by a rule."),
        Panel("Coupons redeemed", "share",
              _one(f"{_sum('increase', 'campaign_redemptions_total', '1d', 'campaign_type')} / "
                   f"({_sum('increase', 'campaign_contacts_total', '1d', 'campaign_type')} > 0)", "{{campaign_type}}"),
              (Limit(own.redemption_rate, "below", "business.redemption_rate"),),
              "Redeemed coupons over households that got the campaign, in a day.", "bars"),
        Panel("Feedback that was not counted", "number",
              _one(_sum("increase", "feedback_rejected_total", long, "reason"), "{{reason}}"),
              note="Sent twice, or about something that nobody forecast."),
    )  # fmt: skip
    use = (
        Panel("Requests", "per second",
              _one(_sum("rate", _BUSINESS, window, "path"), "{{path}}")),
        Panel("Units sold against their forecast", "number", (
            Query("sum(increase(forecast_actual_units_total[1d]))", "sold"),
            Query("sum(increase(forecast_absolute_error_units_total[1d]))", "off by"),
        ), note="Of the sales that came in within a day."),
        Panel("Answers from the cache", "share",
              _one(f"{hits} / ({_sum('rate', 'cache_requests_total', window, 'tier')} > 0)", "{{tier}}"),
              note="Each tier is asked only when the one before had nothing.", only_with="a cache"),
    )  # fmt: skip
    rows = (Row("What do people make of it?", people), Row("How much is it used?", use))
    return Dashboard("business", "Business", rows)


def _objectives(config: MonitoringConfig) -> Dashboard:
    own, window = config.objectives, config.alerts.latency_high.window
    promised = config.forecaster.service.p95_seconds
    # A histogram knows its own limits only; the next lower one is on the safe side.
    edge = max((bucket for bucket in BUCKETS if bucket <= promised), default=BUCKETS[0])
    burns = sorted({rate.long for rate in own.burn_rates} | {rate.short for rate in own.burn_rates}, key=seconds)
    up = (
        Panel("Services that answer rightly", "number", _one("service_up", "{{service}}"),
              (Limit(1, "below", "health"),), "1: the monitor's test question was answered as it should be.", "bars"),
        Panel("Error budget that is left", "share", _one("slo_error_budget_remaining_ratio", "{{service}}"),
              (Limit(0, "below", "objectives.availability"),),
              f"Of the {100 * own.error_budget:.3g}% of the time that may go wrong in {own.window}.", "bars"),
        Panel("Time of a health check", "seconds", _one("service_check_seconds", "{{service}}"),
              (Limit(config.health.timeout_seconds, "above", "health.timeout_seconds"),)),
    )  # fmt: skip
    failures = _sum("increase", "service_check_failures_total", "1h", "service")
    forecasts = 'path=~"/forecast.*"'
    in_time = _sum("rate", f'api_request_seconds_bucket{{le="{edge:g}",{forecasts}}}', window)
    answered = _sum("rate", f"api_request_seconds_count{{{forecasts}}}", window)
    promise = (
        Panel("Budget of failed requests burns", "number", tuple(
            # Before the first failed request there is no series of failed ones.
            Query(f"(workshop:request_errors:ratio_rate{burn} or 0 * workshop:requests:rate) / {own.error_budget:.6g}",
                  f"over {burn}")
            for burn in burns
        ), tuple(Limit(rate.factor, "above", f"objectives.burn_rates, {rate.long}") for rate in own.burn_rates[:2]),
            "How many times faster than the objective allows."),
        Panel(f"Forecasts within {1000 * edge:g} ms", "share",
              _one(f"{in_time} / {answered}", "in time"),
              (Limit(own.latency, "below", "objectives.latency"),)),
        Panel("Failed checks in an hour", "number",
              _one(failures, "{{service}}"), kind="bars"),
    )  # fmt: skip
    load = (
        Panel("Requests by status", "per second",
              _one(_sum("rate", _BUSINESS, window, "status"), "{{status}}"),
              note="From 500 on the server is to blame, from 400 on the caller."),
        Panel("Requests at work or waiting", "number", _one("sum(api_requests_in_flight)", "in flight")),
        Panel("Memory of the machine", "share", _one("host_memory_used_ratio", "used"),
              (Limit(config.alerts.memory_high.threshold, "above", "alerts.memory_high.threshold"),)),
    )  # fmt: skip
    rows = (Row("Is everything up?", up), Row("Is the promise kept?", promise), Row("How busy is it?", load))
    return Dashboard("objectives", "Objectives", rows)
