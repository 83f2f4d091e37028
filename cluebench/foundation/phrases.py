"""English texts that a page can show in another language: a terminal prints them as they are."""

from __future__ import annotations

from typing import Any


class Phrase(str):
    """A text filled into a template, which still knows its template and what was filled in.

    Translations are by template (``{missing} of the {trials} trials missing``). A value may be a `Phrase` itself.
    """

    template: str
    values: dict[str, Any]

    def __new__(cls, template: str, **values: Any) -> Phrase:
        self = super().__new__(cls, template.format(**values) if values else template)
        self.template, self.values = template, values
        return self

    def __deepcopy__(self, memo: dict) -> Phrase:  # copy would call __new__ with the filled text as a template
        return self

    def parts(self) -> list[Any]:
        """``[template, {name: value}]``, JSON values, phrases among the values in the same form."""
        known = {name: one.parts() if isinstance(one, Phrase) else str(one) for name, one in self.values.items()}
        return [self.template, known]
