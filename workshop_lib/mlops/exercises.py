"""All exercises of module 6, collected from the notebooks' own files."""

from workshop_lib.exercises import Exercise
from workshop_lib.mlops import (
    ab_exercises,
    gates_exercises,
    governance_exercises,
    impact_exercises,
    pipeline_exercises,
    security_exercises,
    versioning_exercises,
)

EXERCISES: dict[str, Exercise] = {
    **ab_exercises.EXERCISES,
    **gates_exercises.EXERCISES,
    **governance_exercises.EXERCISES,
    **versioning_exercises.EXERCISES,
    **impact_exercises.EXERCISES,
    **pipeline_exercises.EXERCISES,
    **security_exercises.EXERCISES,
}
