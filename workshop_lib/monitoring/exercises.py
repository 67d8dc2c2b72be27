"""The exercises of module 5 about monitoring."""

from workshop_lib.monitoring import alert_exercises, drift_exercises, health_exercises, metrics_exercises

EXERCISES = {
    **metrics_exercises.EXERCISES,
    **drift_exercises.EXERCISES,
    **alert_exercises.EXERCISES,
    **health_exercises.EXERCISES,
}
