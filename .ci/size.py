"""Print how long files and functions are, how much is annotated and tested, and fail where the budget is broken."""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# what: (median, ninetieth percentile, largest)
FILE_LINES = (120, 300, 450)
FUNCTION_LINES = (8, 30, 80)
TESTS_TO_SOURCE = 1.2


def sources() -> list[Path]:
    """Return the modules of the five packages."""
    return sorted(p for p in ROOT.glob("sidestep-*/src/**/*.py"))


def tests() -> list[Path]:
    """Return the test modules."""
    return sorted([*ROOT.glob("sidestep-*/tests/**/*.py"), *ROOT.glob("tests/**/*.py")])


def functions(paths: list[Path]) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function with where it stands."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return a function's length without its docstring."""
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        length -= (first.end_lineno or first.lineno) - first.lineno + 1
    return length


def annotated(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether every parameter and the result are annotated."""
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    named = [a for a in given if a.arg not in ("self", "cls")]
    return node.returns is not None and all(a.annotation is not None for a in named)


def check(what: str, sizes: dict[str, int], budget: tuple[int, int, int]) -> bool:
    """Print median, ninetieth percentile and largest of some sizes against their budget; return whether it is kept."""
    ordered = sorted(sizes.values())
    found = (int(statistics.median(ordered)), ordered[int(0.9 * (len(ordered) - 1))], ordered[-1])
    kept = all(value <= limit for value, limit in zip(found, budget, strict=True))
    print(f"{what:<28}" + "   ".join(f"{v:>4} of {limit:<4}" for v, limit in zip(found, budget, strict=True)))
    for where, size in sizes.items():
        if size > budget[2]:
            print(f"  too long: {where} has {size}", file=sys.stderr)
    return kept


def main() -> int:
    """Print the figures; 1 when any is over its budget."""
    files = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in sources()}
    code = {path: lines for path, lines in files.items() if lines}
    nodes = list(functions(sources()))
    bare = [where for where, node in nodes if not annotated(node)]
    test_lines = sum(len(p.read_text(encoding="utf-8").splitlines()) for p in tests())
    ratio = test_lines / sum(files.values())
    print(f"{'':<28}{'median':<15}{'90 %':<15}largest")
    kept = [
        check("lines of a file", code, FILE_LINES),
        check("lines of a function", {where: body_lines(node) for where, node in nodes}, FUNCTION_LINES),
        not bare,
        ratio >= TESTS_TO_SOURCE,
    ]
    print(f"annotated functions         {len(nodes) - len(bare)} of {len(nodes)}")
    print(f"test lines to source lines  {ratio:.2f} of {TESTS_TO_SOURCE} ({test_lines:,} to {sum(files.values()):,})")
    for where in bare[:5]:
        print(f"  not annotated: {where}", file=sys.stderr)
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
