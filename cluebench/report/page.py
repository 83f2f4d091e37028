"""Pages of one file each, with style, scripts and data inside: a page never asks any host for anything.

Pages are in English and Chinese. The page has the English texts. The catalogue ``templates/zh.json`` has the Chinese
of each text, and the page's script puts it in (``templates/language.js``).
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluebench.foundation.json_files import parse
from cluebench.foundation.text import Phrase

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).with_name("templates")


@cache
def _templates() -> Environment:
    """Every value is escaped. A name without a value raises jinja2.UndefinedError."""
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
    phrase = text if isinstance(text, Phrase) else Phrase(text, **values)
    return phrase, json.dumps(phrase.parts(), ensure_ascii=False) if phrase.values else ""


def _text(text: str, **values: Any) -> Any:
    """Filter ``t``: an element with a text that the page can translate."""
    return _macros().element(*_phrase(text, values))


def _attribute(text: str, name: str, **values: Any) -> Any:
    """Filter ``t_attr``: an attribute with a text that the page can translate."""
    return _macros().attribute(name, *_phrase(text, values))


@cache
def _macros() -> Any:
    return _templates().get_template("phrase.html").module


def rendered(template: str, data: Any, **values: Any) -> str:
    """A page of ``templates/``, which extends ``base.html``.

    ``data``: JSON values for the page's scripts, in ``<script id="data">``. ``values``: for the names in the
    template. Raises jinja2.UndefinedError for a name without a value, and ValueError for a NaN in ``data``.
    """
    return _templates().get_template(template).render(data=data, **values)
