"""Markdown pages from Jinja templates, which are files of the packages that use them.

A template has the function `table` and the filters `interval` (see `tables`) and `picture`.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from acoustic.evaluation.tables import interval, table


def render_markdown(package: str, template: str, **values: Any) -> str:
    """Render a Markdown page.

    Args:
        package: package that has the template among its files, e.g. "acoustic.evaluation".
        template: path of the template in the package, e.g. "templates/card.md.j2".
        values: names in the template → their values.

    Raises:
        jinja2.UndefinedError: the template uses a value that is missing.
    """
    # imported here, because only the extras that write pages install it
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["table"] = table
    environment.filters["interval"] = interval
    environment.filters["picture"] = picture
    return environment.get_template(template).render(**values)


def picture(link: str) -> str:
    """Format a link to a picture as Markdown that shows it, named after its file."""
    return f"![{PurePosixPath(link).stem}]({link})"
