"""What tests look for in source code."""

import ast


def broad_excepts(tree: ast.Module) -> list[int]:
    """Lines of handlers that catch everything; one that raises again lets nothing disappear."""
    return [
        handler.lineno
        for handler in ast.walk(tree)
        if isinstance(handler, ast.ExceptHandler)
        and (handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException"))
        and not any(isinstance(statement, ast.Raise) for statement in ast.walk(handler))
    ]
