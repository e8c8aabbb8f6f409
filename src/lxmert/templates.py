"""Fills the templates of pages and model cards."""

from pathlib import Path


def fill(template: Path, **values: object) -> str:
    """Return a template of Jinja with values filled in; every name in it must have one.

    Args:
        template: the file; what is filled into one that ends in `.html` is escaped.
        values: by name. In the template, `{{ 0.5 | form(".1%") }}` formats one as Python does.
    """
    # PyTorch needs Jinja, too, and imports it when it compiles only.
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=template.suffix == ".html",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["form"] = format
    return environment.from_string(template.read_text(encoding="utf-8")).render(values)
