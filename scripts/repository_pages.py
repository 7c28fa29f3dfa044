"""A hook of MkDocs: what pages link to outside docs/, such as ../CHANGELOG.md, becomes a page of the site too.

So the same links work on the site and on the repository's own pages. A Markdown file is taken as it is, another text is
shown as code.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

FOLDER = "repository"  # of the site
LINK = re.compile(r"(\]\()([^)#\s:]+)(#[^)\s]*)?(?=\))")
LANGUAGES = {
    "": "text",
    ".ipynb": "json",
    ".js": "javascript",
    ".py": "python",
    ".sh": "sh",
    ".toml": "toml",
    ".yml": "yaml",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file that is linked to, directly or from an added page."""
    root, docs = _folders(config)
    waiting = [f"{docs}/{file.src_uri}" for file in files.documentation_pages()]
    seen = set(waiting)
    while waiting:
        source = waiting.pop()
        for _, link, _ in LINK.findall((root / source).read_text(encoding="utf-8")):
            target = _target(source, link)
            if target in seen or target.startswith(f"{docs}/"):
                continue
            seen.add(target)
            if not (root / target).is_file():
                raise PluginError(f"{source} links to {link}, which is no file of the repository.")
            content = _content(root / target, target)
            files.append(File.generated(config, _page(target), content=content, inclusion=InclusionLevel.NOT_IN_NAV))
            if target.endswith(".md"):
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the pages that `on_files` has added, and those of added pages at docs/."""
    _, docs = _folders(config)
    here = page.file.src_uri
    source = here.removeprefix(f"{FOLDER}/") if page.file.generated_by else f"{docs}/{here}"

    def moved(match: re.Match[str]) -> str:
        opening, link, anchor = match.groups()
        target = _target(source, link)
        place = target.removeprefix(f"{docs}/") if target.startswith(f"{docs}/") else _page(target)
        if files.get_file_from_path(place) is None:
            return match[0]
        return f"{opening}{posixpath.relpath(place, posixpath.dirname(here))}{anchor or ''}"

    return LINK.sub(moved, markdown)


def _folders(config: MkDocsConfig) -> tuple[Path, str]:
    root = Path(config.config_file_path).parent
    return root, Path(os.path.relpath(config.docs_dir, root)).as_posix()


def _target(source: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _page(path: str) -> str:
    return f"{FOLDER}/{path if path.endswith('.md') else f'{path}.md'}"


def _content(file: Path, path: str) -> str:
    text = file.read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    return f"---\nhide: [toc]\n---\n# {path}\n\n````{LANGUAGES.get(file.suffix, 'text')}\n{text.rstrip()}\n````\n"
