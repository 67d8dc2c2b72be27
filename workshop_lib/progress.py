"""Progress bars for long work: seen while it runs, gone when it is done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

from workshop_lib.settings import settings

T = TypeVar("T")


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar.

    Headless runs switch it off (``WORKSHOP_PROGRESS=false``): a bar in a stored output says nothing.
    """
    yield from tqdm(items, desc=label, total=total, leave=False, disable=not settings.progress, file=sys.stderr)


def steps(label: str, tasks: Iterable[tuple[str, Callable[[], object]]]) -> Iterator[Callable[[], object]]:
    """Iterate over named tasks with a bar that names the one under way."""
    tasks = list(tasks)
    with tqdm(total=len(tasks), desc=label, leave=False, disable=not settings.progress, file=sys.stderr) as bar:
        for name, task in tasks:
            bar.set_postfix_str(name)
            yield task
            bar.update()
