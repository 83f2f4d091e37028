"""Pages of one file each, which ask nothing of any host: templates with style, scripts and data in the page itself.

Pages are in English and Chinese. A text of a page is a phrase of the catalogue ``templates/zh.json``, which has the
Chinese of each; the page holds English, and its script replaces it (``templates/language.js``).
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluebench.foundation.json_files import parse
from cluebench.foundation.phrases import Phrase

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).with_name("templates")


@cache
def _templates() -> Environment:
    """Whatever is filled in is escaped; a name that a page was not given raises."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    environment.globals |= {"charts_library": charts_library, "chinese": chinese, "phrase": Phrase}
    environment.filters |= {"t": _text, "t_attr": _attribute}
    return environment


@cache
def charts_library() -> str:
    """The script of plotly.js, as its Python package ships it."""
    return (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


@cache
def chinese() -> dict[str, str]:
    """Template of a phrase → its Chinese."""
    translations: dict[str, str] = parse((_TEMPLATES / "zh.json").read_bytes())
    return translations


def _phrase(text: str, values: dict[str, Any]) -> tuple[Phrase, str]:
    said = text if isinstance(text, Phrase) else Phrase(text, **values)
    return said, json.dumps(said.parts(), ensure_ascii=False) if said.values else ""


def _text(text: str, **values: Any) -> Any:
    """Filter ``t``: an element with the text, which the page can translate."""
    return _macros().element(*_phrase(text, values))


def _attribute(text: str, name: str, **values: Any) -> Any:
    """Filter ``t_attr``: an attribute with a text, which the page can translate."""
    return _macros().attribute(name, *_phrase(text, values))


def _macros() -> Any:
    return _templates().get_template("phrase.html").module


def rendered(template: str, data: Any, **values: Any) -> str:
    """A page of ``templates/``, which extends ``base.html``.

    ``data``: what the page's scripts read, JSON values; in the page it stands as JSON in ``<script id="data">``.
    ``values``: by the names the template uses. Raises jinja2.UndefinedError for a name it uses and isn't given, and
    ValueError for a NaN in ``data``.
    """
    return _templates().get_template(template).render(data=data, **values)
