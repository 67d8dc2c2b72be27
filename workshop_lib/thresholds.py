"""What the course promises, one figure each; read them as ``settings.thresholds``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

Share = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""


class Thresholds(BaseModel):
    """Targets that the checkpoints compare with what was measured."""

    completeness: Share = Field(0.95, description="share of required values that are present")
    consistency: Share = Field(0.98, description="share of rows that satisfy every rule")
    prepare_seconds: float = Field(20, gt=0, description="raw files to cached tables, seconds")
    load_seconds: float = Field(1, gt=0, description="cached tables to memory, seconds")
    test_r2: Share = Field(0.85, description="R² of the forecaster on the held-out weeks")
    wape_ratio: float = Field(0.70, gt=0, description="WAPE of the forecaster over the seasonal naive's")
    train_seconds: float = Field(60, gt=0, description="training of the chosen forecaster, seconds")
    onnx_difference: float = Field(1e-4, gt=0, description="largest relative difference to scikit-learn")
    onnx_megabytes: float = Field(50, gt=0, description="size of the exported forecaster, MB")
    churn_roc_auc: Share = Field(0.83, description="ROC AUC of the churn model on held-out cutoffs")
    churn_lift: float = Field(2.5, gt=0, description="average precision over the share that guessing gives")
    served_difference: float = Field(1e-6, gt=0, description="largest difference of a served probability")
    llm_start_seconds: float = Field(30, gt=0, description="local LLM server from start to healthy, seconds")
    llm_first_token_ms: float = Field(500, gt=0, description="median time to first token, milliseconds")
    llm_tokens_per_second: float = Field(50, gt=0, description="generated tokens per second over all requests")
    llm_concurrency: int = Field(10, gt=0, description="requests at once that are answered without an error")
    llm_prediction_error: Share = Field(0.05, description="planned memory against what the server reports")
    llm_metrics_gap: Share = Field(0.10, description="benchmark figures against the server's own metrics")
    prompt_gain: float = Field(0.15, gt=0, description="quality of the chosen prompt over the zero-shot one's")
    trees_difference: float = Field(1e-5, gt=0, description="largest relative difference of OpenVINO's tree models")
    trees_row_ms: float = Field(0.5, gt=0, description="one row through OpenVINO, milliseconds")
    trees_over_sklearn: float = Field(50, gt=0, description="scikit-learn's time for one row over OpenVINO's")
    endpoint_difference: float = Field(1e-5, gt=0, description="largest relative difference of a served forecast")
    endpoint_p95_ms: float = Field(100, gt=0, description="95% of the forecaster's answers within, milliseconds")
    endpoint_requests_per_second: float = Field(100, gt=0, description="requests that the forecaster sustains per s")
    endpoint_memory_gib: float = Field(2, gt=0, description="memory of the forecaster's process, GiB")
    endpoint_cores: float = Field(0.5, gt=0, description="processor cores of the forecaster's process at that load")
    endpoint_p99_ms: float = Field(50, gt=0, description="99% of the answers within, at half of the most it can do, ms")
    endpoint_over_mlflow: float = Field(20, gt=0, description="answers per second over MLflow's scikit-learn server's")
    endpoint_over_mlflow_onnx: float = Field(1.3, gt=0, description="the same over MLflow's ONNX server's")
    endpoint_of_ceiling: Share = Field(0.75, description="the same over the KServe SDK's with a constant answer")
    down_seconds: float = Field(3, gt=0, description="a service that is away is seen by the dashboard within, seconds")
    recovery_seconds: float = Field(120, gt=0, description="from the end of a fault to a fresh answer, seconds")
    stock_seconds: float = Field(2, gt=0, description="95% of decisions about stock within, seconds")
    household_seconds: float = Field(8, gt=0, description="the same, what to do about a household")
    market_seconds: float = Field(4, gt=0, description="the same, a look at a department or the shop")
    question_seconds: float = Field(2, gt=0, description="the same, a question in plain words")
    follow_up_seconds: float = Field(3, gt=0, description="the same, a question and one that follows it")
    product_text_seconds: float = Field(10, gt=0, description="the same, a text for a product's page")
    recommender_ndcg_ratio: float = Field(1.1, gt=0, description="NDCG@10 of new suggestions over popularity's")
    recommender_hit_rate: Share = Field(0.27, description="households that buy one of ten new suggestions in 4 weeks")
    buy_again_hit_rate: Share = Field(0.78, description="households that buy one of ten repeated products in 4 weeks")
    routing_accuracy: Share = Field(0.9, description="share of held-out questions that reach the right chain")
    market_false_years: Share = Field(0.15, description="years in random order in which a clear trend is found")
    market_found_again: Share = Field(0.9, description="pairs of the first half-year that hold in the second")
    chain_seconds: float = Field(4, gt=0, description="a product analysis with its texts, seconds")
    chain_texts: Share = Field(0.6, description="share of a chain's texts that the language model may write itself")
    autoscaling_cost: float = Field(0.7, gt=0, description="cost of autoscaled replicas over that of enough fixed ones")
    student_wape_ratio: float = Field(1.05, gt=0, description="WAPE of the distilled network over its teacher's")
    int8_error: Share = Field(0.02, description="WAPE of INT8 forecasts against the same network's at float32")
    int8_time_saved: Share = Field(0.30, description="share of a prediction's time that INT8 saves")
    int8_size_saved: Share = Field(0.75, description="share of the model file that INT8 saves")
    llm_int8_speedup: float = Field(1.5, gt=0, description="INT8's tokens per second over bfloat16's, one stream")
    llm_int8_quality_loss: Share = Field(0.05, description="mean quality of texts that INT8 may lose")
    alert_seconds: float = Field(15, gt=0, description="from a fault to the message, without the alert's own wait, s")
    drift_false_weeks: Share = Field(0.05, description="share of quiet weeks in which drift is called")
    retraining_gain: Share = Field(0.01, description="share of the error that a promoted retraining saves afterwards")
    metric_series: int = Field(250, gt=0, description="series of one metric of the business API, at most")
    cache_hit_rate: Share = Field(0.65, description="share of questions that the cache answers")
    cache_lower: Share = Field(0.8, description="by which share an answer from the cache takes less time")
    significance: Share = Field(0.05, description="p-value below which a challenger counts as better")
    shortages_saved: Share = Field(0.20, description="share of missed units that forecasts save, simulated")
    waste_saved: Share = Field(0.15, description="share of spoiled fresh units that forecasts save, simulated")
    stock_cost_saved: Share = Field(0.20, description="share of the cost of too little and too much stock they save")
    payback_years: float = Field(2, gt=0, description="years until the money spent has come back")
    loss_probability: Share = Field(0.10, description="share of possible worlds in which the project loses money")
    false_alarms: Share = Field(0.07, description="share of A/A tests that find a difference, simulated")
    power_gap: Share = Field(0.03, description="by how much a simulated power may lie below the computed one")
    adversarial_change: Share = Field(
        0.10, description="by which share 95% of forecasts move at most when inputs move by 1% in the worst direction"
    )
    stolen_agreement: Share = Field(
        0.75, description="decisions that a copy of the churn model shares with it, stolen within a day's budget"
    )
    stolen_order: Share = Field(0.9, description="rank correlation of such a copy with the churn model")
    household_influence: float = Field(
        1.25, gt=0, description="how far leaving one household out moves forecasts, over what another seed does"
    )
    pipeline_seconds: float = Field(120, gt=0, description="the nine tasks from commit to production, without waits, s")
