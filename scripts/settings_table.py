"""Write the table of the gateway's settings into docs/operations.md, from the settings class."""

from __future__ import annotations

import re
from pathlib import Path

from resnest_server.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "operations.md"
BEGIN = "<!-- settings: made by `make docs`, not edited -->\n"
END = "<!-- end of settings -->\n"


def table() -> str:
    """Return the table in Markdown."""
    prefix = str(Settings.model_config["env_prefix"])
    rows = ["| variable | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        unset = field.default is None or field.default is False or field.default == ()
        default = "–" if unset else f"`{field.default}`"
        rows.append(f"| `{prefix}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def with_table(page: str) -> str:
    """Return the page with its table regenerated."""
    return re.sub(f"({re.escape(BEGIN)}).*({re.escape(END)})", lambda m: m[1] + table() + m[2], page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
