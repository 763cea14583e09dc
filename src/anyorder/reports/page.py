"""What every page shares: its templates, and numbers that JSON can hold."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import anyorder
from anyorder.errors import ConfigError


def page_files(output: str | Path, field: str) -> tuple[Path, Path]:
    """Return the two files of a report: the page ``output``, which a message calls ``field``, and its Markdown.

    Raises:
        ConfigError: it does not end in ``.html``, or is a folder.
    """
    page = Path(output)
    if page.suffix != ".html" or page.is_dir():
        raise ConfigError(field, str(output), "a file whose name ends in .html")
    return page, page.with_suffix(".md")


def render(template: str, **values: Any) -> str:
    """Fill a template of this package; text is escaped unless it is ``Markup``, a missing value is an error."""
    environment = Environment(
        loader=PackageLoader("anyorder.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(version=anyorder.__version__, **values)
