"""The documentation's site builds without a warning, needs no network, and its links and anchors lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort, PluginError
from playwright.sync_api import Browser

from tests.browser import Watch

ROOT = Path(__file__).parents[2]
GUIDES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("docs/api/*.md")])
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}


class Links(HTMLParser):
    """What a page loads, where its links lead, and its anchors."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag in LOADING and LOADING[tag] in values:
            self.loads.append(values[LOADING[tag]])
        elif tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(values["href"])
        elif tag == "a" and "href" in values:
            self.leads.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs-site` does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    return {page: Links(page) for page in site.rglob("*.html")}


def test_every_guide_and_what_it_links_to_outside_docs_is_a_page(site: Path, pages: dict[Path, Links]) -> None:
    docs = ROOT / "docs"
    expected = {site / guide.relative_to(docs).with_suffix(".html") for guide in GUIDES}
    assert expected | {site / "repository" / "CHANGELOG.html"} <= set(pages)
    assert "Unreleased" in (site / "repository" / "CHANGELOG.html").read_text(encoding="utf-8")


def test_links_and_anchors_lead_somewhere(pages: dict[Path, Links]) -> None:
    wrong: dict[str, list[str]] = defaultdict(list)
    checked = 0
    for page, links in pages.items():
        for link in [*links.leads, *links.loads]:
            parts = urlsplit(link)
            if parts.scheme or page.name == "404.html":
                continue
            checked += 1
            target = page if not parts.path else (page.parent / unquote(parts.path)).resolve()
            anchors = pages[target].anchors if target in pages else set()
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in anchors | {"__toc"}):
                wrong[page.name].append(link)
    assert not wrong
    assert checked > 1000


def test_nothing_is_loaded_from_the_network(site: Path, pages: dict[Path, Links]) -> None:
    loads = {link for links in pages.values() for link in links.loads}
    loads |= {
        link
        for style in site.rglob("*.css")
        for link in re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')\s]+)", style.read_text(encoding="utf-8"))
    }
    assert loads
    assert not [link for link in loads if link.startswith(("http:", "https:", "//"))]


def test_docstrings_sections_are_rendered(site: Path) -> None:
    page = (site / "api" / "detections.html").read_text(encoding="utf-8")
    assert "Raises:</" in page and "Attributes:</" in page
    assert not re.search(r"<p>(Args|Attributes|Raises):", page)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_a_page_begins_with_what_one_can_do_after_reading_it(guide: Path) -> None:
    heading, opening, *_ = guide.read_text(encoding="utf-8").split("\n\n", 2)
    assert heading.startswith("# ")
    assert " you can " in opening and opening.count(". ") < 2


@pytest.mark.browser
def test_search_needs_no_server_and_no_network(site: Path, browser: Browser) -> None:
    page = browser.new_page()
    page.route(re.compile("^https?:"), lambda route: route.abort())
    watch = Watch(page)
    page.goto((site / "index.html").as_uri())
    page.locator("[data-md-component=search-query]").press_sequentially("panorama")
    page.locator(".md-search-result__item a").first.wait_for()
    page.locator(".md-search-result__item a").first.click()
    page.wait_for_url(re.compile("h=panorama"))
    watch.check()
    page.close()


class IgnoringTags(yaml.SafeLoader):
    """Reads mkdocs.yml without calling the functions that it names."""


IgnoringTags.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
SMALL = "# Small\n\nOn this page you can follow a [link]({link}).\n\n## Here\n"


@pytest.mark.parametrize(
    ("link", "complaint"),
    [
        ("../NOTES.md#why", None),
        ("../examples/hello.py", None),
        ("#here", None),
        ("absent.md", "absent.md"),
        ("#absent", "absent"),
        ("../NOTES.md#absent", "absent"),
        ("../absent.md", "absent.md"),
    ],
)
def test_a_broken_link_fails_the_build(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, link: str, complaint: str | None
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "examples").mkdir()
    (tmp_path / "docs" / "index.md").write_text(SMALL.format(link=link))
    (tmp_path / "NOTES.md").write_text("# Notes\n\n[Back](docs/index.md#here)\n\n## Why\n")
    (tmp_path / "examples" / "hello.py").write_text("print('hello')\n")
    (tmp_path / "hook.py").symlink_to(ROOT / "scripts" / "repository_pages.py")
    settings = {"site_name": "Small", "theme": "mkdocs", "hooks": ["hook.py"], "nav": [{"Home": "index.md"}]}
    settings["validation"] = yaml.load((ROOT / "mkdocs.yml").read_text(), IgnoringTags)["validation"]
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(settings))
    config = load_config(str(tmp_path / "mkdocs.yml"), strict=True)
    if complaint is None:
        build(config)
        return
    with pytest.raises((Abort, PluginError)) as failure:
        build(config)
    assert complaint in caplog.text + str(failure.value)
