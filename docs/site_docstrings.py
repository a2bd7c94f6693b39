"""An extension of Griffe: docstrings as the reader of the site wants them."""

import re

import griffe

ROLE = re.compile(r":(?:func|class|meth|attr|mod|data):`~?([^`]+)`")
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)  # Griffe knows the plural


class Docstrings(griffe.Extension):
    """Turn roles of Sphinx into code, and one example into a section of examples."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring:
            text = ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = EXAMPLE.sub("Examples:", text)
