"""All exercises of module 1."""

from workshop_lib.predictive import forecast_exercises

EXERCISES = {
    **forecast_exercises.EXERCISES,
}
