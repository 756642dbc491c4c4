"""HTML pages of templates: names are escaped, pictures are inside of the file."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".svg": "image/svg+xml"}


def rendered(template: str, **values: object) -> str:
    """The page of a template in this folder; what it uses must be given."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template(template).render(**values)


def embedded(content: bytes, suffix: str) -> str:
    """The content of a picture file as a data URI."""
    return f"data:{MEDIA_TYPES[suffix]};base64,{base64.b64encode(content).decode()}"


def _breakable(name: str) -> Markup:
    """A long name may go on in the next line after each underscore."""
    return escape(name).replace("_", Markup("_<wbr>"))
