"""English texts that a page can show in another language; a terminal prints them in English."""

from typing import Any


class Phrase(str):
    """A filled template that keeps the template and its values: translations are by template.

    Such as ``{missing} of the {trials} trials missing``. A value may be a `Phrase` itself.
    """

    template: str
    values: dict[str, Any]

    def __new__(cls, template: str, **values: Any) -> "Phrase":
        self = super().__new__(cls, template.format(**values) if values else template)
        self.template, self.values = template, values
        return self

    def __deepcopy__(self, memo: dict) -> "Phrase":  # copy would call __new__ with the filled text as a template
        return self

    def parts(self) -> list[Any]:
        """``[template, {name: value}]``, JSON values; values that are phrases have the same form."""
        values = (
            (name, value.parts() if isinstance(value, Phrase) else str(value)) for name, value in self.values.items()
        )
        return [self.template, dict(values)]
