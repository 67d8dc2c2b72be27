"""All exercises of module 4."""

from workshop_lib.orchestration import (
    customer_exercises,
    dashboard_exercises,
    end_to_end_exercises,
    market_exercises,
    product_exercises,
    router_exercises,
    wrapper_exercises,
)

EXERCISES = {
    **wrapper_exercises.EXERCISES,
    **product_exercises.EXERCISES,
    **customer_exercises.EXERCISES,
    **market_exercises.EXERCISES,
    **router_exercises.EXERCISES,
    **dashboard_exercises.EXERCISES,
    **end_to_end_exercises.EXERCISES,
}
