"""All exercises of module 1."""

from workshop_lib.predictive import churn_exercises, data_exercises, forecast_exercises, mlops_exercises

EXERCISES = {
    **mlops_exercises.EXERCISES,
    **data_exercises.EXERCISES,
    **forecast_exercises.EXERCISES,
    **churn_exercises.EXERCISES,
}
