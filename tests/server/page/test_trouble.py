"""The page when something is amiss or out of the ordinary, in a real browser."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import pytest
from playwright.sync_api import Page, Route, expect

from resnest_core.images import load_image
from resnest_core.runtimes import FakeRuntime
from resnest_core.runtimes.fake import FAKE_CARD
from tests.server.live import live
from tests.server.page.tools import (
    SAMPLE,
    Open,
    answer_to,
    click_sample,
    expected_rows,
    rows,
)
from tests.server.test_serve import PHOTOGRAPH, ROOT

pytestmark = pytest.mark.browser


def test_a_file_that_is_no_image(page: Page) -> None:
    page.set_input_files("#file", {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"Not an image."})
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("This is not an image: send a JPEG")
    expect(page.get_by_role("button", name="Choose an image")).to_be_visible()
    answer = click_sample(page)
    expect(alert).to_be_empty()
    assert rows(page) == expected_rows(answer, 0.3)


def test_a_server_that_is_away_for_a_while(page: Page) -> None:
    page.route("**/detect?*", lambda route: route.abort())
    page.click(SAMPLE)
    expect(page.get_by_role("alert")).to_contain_text("The server can't be reached")
    page.unroute("**/detect?*")
    answer_to(page, page.get_by_role("button", name="Try again").click)
    expect(page.get_by_role("alert")).to_be_empty()
    assert rows(page)


def test_a_proxy_with_words_of_its_own(page: Page) -> None:
    page.route("**/detect?*", lambda route: route.fulfill(status=502, body="<html>oops</html>"))
    page.click(SAMPLE)
    expect(page.get_by_role("alert")).to_contain_text("The server answered 502")


def test_the_last_image_wins(page: Page) -> None:
    """An image that is chosen while another is on its way."""
    held: list[Route] = []
    page.route("**/detect?*", lambda route: held.append(route) if not held else route.continue_())
    page.click(SAMPLE)
    expect(page.locator("#status")).to_contain_text("on 000000261888.jpg")
    answer = answer_to(page, lambda: page.click(".sample >> nth=2"))
    assert {row[0] for row in rows(page)} == {"bowl", "banana", "apple"}
    assert rows(page) == expected_rows(answer, 0.3)


def test_an_image_that_the_browser_can_not_read(page: Page) -> None:
    tiff = cv2.imencode(".tiff", load_image(PHOTOGRAPH)[..., ::-1])[1].tobytes()
    file: Any = {"name": "photo.tiff", "mimeType": "image/tiff", "buffer": tiff}
    answer = answer_to(page, lambda: page.set_input_files("#file", file))
    assert rows(page) == expected_rows(answer, 0.3) != []


def test_turned_photographs_stand_as_the_server_saw_them(page: Page) -> None:
    rotated = ROOT / "tests/data/parity/images/311303_rotated.jpg"
    answer = answer_to(page, lambda: page.set_input_files("#file", rotated))
    bitmap = page.evaluate(
        """async (content) => {
            const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
            const { width, height } = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
            return { width, height };
        }""",
        base64.b64encode(rotated.read_bytes()).decode(),
    )
    assert bitmap == answer["image"]


def test_several_models(open_page: Open) -> None:
    names = ("first", "second & last")
    cards = [FAKE_CARD.model_copy(update={"name": name, "notes": f"Notes of {name}."}) for name in names]
    with live(*(FakeRuntime(card) for card in cards)) as url:
        page = open_page(url)
        picker = page.get_by_role("combobox", name="Model")
        expect(picker).to_have_value("first")
        assert click_sample(page)["model"] == "first"
        answer = answer_to(page, lambda: picker.select_option("second & last"))
        assert answer["model"] == "second & last"
        expect(page.locator("#notes")).to_have_text("Notes of second & last.")
        expect(page.locator("#code")).to_contain_text("v1/models/second%20%26%20last/detect")


def test_one_model_needs_no_picker(page: Page) -> None:
    expect(page.locator("#model-name")).to_contain_text("demo")
    expect(page.get_by_role("combobox")).to_have_count(0)


def test_a_model_without_masks(open_page: Open) -> None:
    with live(FakeRuntime(FAKE_CARD.model_copy(update={"mask_size": None}))) as url:
        page = open_page(url)
        answer = click_sample(page)
        x1, y1, x2, y2 = answer["detections"][0]["box"]
        assert int(rows(page)[0][2]) == round((x2 - x1) * (y2 - y1))


def test_key_is_asked_for_after_401_and_kept_nowhere(open_page: Open) -> None:
    with live(FakeRuntime(), api_keys=("secret",)) as url:
        page = open_page(url)
        key = page.get_by_label("This server requires an API key")
        expect(key).to_be_focused()
        key.fill("wrong")
        key.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("key")
        expect(key).to_be_focused()
        key.fill("secret")
        key.press("Enter")
        expect(page.get_by_role("alert")).to_be_empty()
        expect(key).to_be_hidden()
        click_sample(page)
        expect(page.locator("#code")).to_contain_text("Authorization: Bearer $API_KEY")
        assert "secret" not in page.content()
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        expect(key).to_have_value("")


def test_no_key_no_field(page: Page) -> None:
    click_sample(page)
    expect(page.locator("#key-form")).to_be_hidden()
