"""Exercises."""

from workshop_lib.exercises import Exercise

EXERCISES: dict[str, Exercise] = {}
