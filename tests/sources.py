"""The product's own source files."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@cache
def sources() -> dict[str, ast.Module]:
    """Every product file, by its place without ``cluebench/`` and ``.py``."""
    files = [*ROOT.glob("cluebench/**/*.py")]
    files += [
        path for folder in ("classification", "mrc", "grid_search_tools") for path in (ROOT / folder).glob("*.py")
    ]
    places = {str(path.relative_to(ROOT)).removeprefix("cluebench/").removesuffix(".py"): path for path in files}
    return {place: ast.parse(path.read_text(encoding="utf-8")) for place, path in sorted(places.items())}
