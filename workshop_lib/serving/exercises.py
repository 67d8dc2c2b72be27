"""All exercises of module 3."""

from workshop_lib.serving import (
    api_exercises,
    endpoint_exercises,
    load_exercises,
    release_exercises,
    trees_exercises,
)

EXERCISES = {
    **trees_exercises.EXERCISES,
    **endpoint_exercises.EXERCISES,
    **api_exercises.EXERCISES,
    **load_exercises.EXERCISES,
    **release_exercises.EXERCISES,
}
