"""Train a churn forest and log it: the entry point of this MLflow project."""

import argparse
import os

import mlflow

from workshop_lib.predictive import churn, tracking

parser = argparse.ArgumentParser()
parser.add_argument("--cutoffs", type=int, default=9, help="cutoffs in the churn table")
parser.add_argument("--trees", type=int, default=100, help="trees of the forest")
parser.add_argument("--leaf", type=int, default=20, help="smallest number of households in a leaf")
options = parser.parse_args()

# `mlflow run` has opened a run already and says which; started by hand, this script opens its own.
if "MLFLOW_RUN_ID" not in os.environ:
    tracking.use_tracking(churn.EXPERIMENT)

train, held_out = churn.split(churn.load_table(options.cutoffs))
candidate = churn.Candidate("random forest", {"n_estimators": options.trees, "min_samples_leaf": options.leaf})
model = candidate.build().fit(train[list(churn.FEATURES)], train["lapsed"])
probability = model.predict_proba(held_out[list(churn.FEATURES)])[:, 1]

with mlflow.start_run():
    mlflow.set_tag("family", candidate.family)
    mlflow.log_metrics(churn.evaluate(held_out["lapsed"], probability))
    if "MLFLOW_RUN_ID" not in os.environ:
        mlflow.log_params(vars(options))
