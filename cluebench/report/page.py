"""Pages of one file each, which ask nothing of any host: templates with style, scripts and data in the page itself."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def _templates() -> Environment:
    """Whatever is filled in is escaped; a name that a page was not given raises."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    environment.globals["charts_library"] = charts_library
    return environment


@cache
def charts_library() -> str:
    """The script of plotly.js, as its Python package ships it."""
    return (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def rendered(template: str, data: Any, **values: Any) -> str:
    """A page of ``templates/``, which extends ``base.html``.

    ``data``: what the page's scripts read, JSON values; in the page it stands as JSON in ``<script id="data">``.
    ``values``: by the names the template uses. Raises jinja2.UndefinedError for a name it uses and isn't given, and
    ValueError for a NaN in ``data``.
    """
    return _templates().get_template(template).render(data=data, **values)
