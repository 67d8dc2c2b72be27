"""A pytest plugin: nbval runs the cells with a history, as JupyterLab and papermill do.

Without one IPython does not see the `;` at the end of a cell, and shows what it was told to hide.
"""

from nbval.kernel import RunningKernel  # type: ignore[import-untyped]


def _execute(kernel: RunningKernel, code: str, allow_stdin: bool | None = None) -> str:
    return str(kernel.kc.execute(code, allow_stdin=allow_stdin, stop_on_error=False))


RunningKernel.execute_cell_input = _execute
