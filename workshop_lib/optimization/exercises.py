"""All exercises of module 5: those about monitoring, and those about optimisation."""

from workshop_lib.monitoring import exercises as monitoring
from workshop_lib.optimization import autoscaling_exercises, cache_exercises, quantization_exercises

EXERCISES = {
    **monitoring.EXERCISES,
    **quantization_exercises.EXERCISES,
    **cache_exercises.EXERCISES,
    **autoscaling_exercises.EXERCISES,
}
