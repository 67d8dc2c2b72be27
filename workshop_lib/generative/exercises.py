"""All exercises of module 2."""

from workshop_lib.generative import api_exercises, benchmark_exercises, planning_exercises, prompt_exercises

EXERCISES = {
    **planning_exercises.EXERCISES,
    **api_exercises.EXERCISES,
    **prompt_exercises.EXERCISES,
    **benchmark_exercises.EXERCISES,
}
