"""The demo page as people use it, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, Request, expect
from pycocotools import mask as coco

from tests.server.page.tools import (
    answer_to,
    canvas_pixels,
    choose,
    click_sample,
    data_transfer,
    drop,
    expected_rows,
    paste,
    point_at,
    rows,
)
from tests.server.test_serve import PHOTOGRAPH

pytestmark = pytest.mark.browser


def test_an_image_is_chosen(page: Page) -> None:
    answer = answer_to(page, lambda: choose(page))
    assert answer["model"] == "demo"
    assert rows(page) == expected_rows(answer, 0.3) != []
    expect(page.locator("#file-name")).to_have_text(PHOTOGRAPH.name)
    expect(page.locator("#notes")).to_contain_text("A demonstration")
    total = answer["timings_ms"]["total"]
    expect(page.locator("#timings")).to_contain_text(f"{total:.1f}")
    expect(page.locator("#timings")).to_contain_text("round trip")


@pytest.mark.parametrize("way", [drop, paste])
def test_an_image_is_dropped_or_pasted(page: Page, way: Callable[[Page, Any], None]) -> None:
    transfer = data_transfer(page, "a.jpg", PHOTOGRAPH.read_bytes(), "image/jpeg")
    answer = answer_to(page, lambda: way(page, transfer))
    assert rows(page) == expected_rows(answer, 0.3) != []
    way(page, data_transfer(page, "", b"", ""))
    expect(page.get_by_role("alert")).to_contain_text("No file was")


@pytest.mark.parametrize("sample", range(3))
def test_samples(page: Page, sample: int) -> None:
    answer = answer_to(page, lambda: page.click(f".sample >> nth={sample}"))
    assert rows(page) == expected_rows(answer, 0.3) != []


def test_masks_are_drawn_where_they_are(page: Page) -> None:
    answer = click_sample(page)
    page.locator("#score").fill("0.95")
    with_masks = canvas_pixels(page).astype(int)
    page.locator("#classes-none").click()
    plain = canvas_pixels(page).astype(int)
    found = [row for row in answer["detections"] if row["score"] > 0.95]
    covered = np.any([coco.decode(row["mask"]) for row in found], axis=0)
    changed = np.abs(with_masks - plain).sum(axis=2) > 12
    scale = changed.shape[0] / covered.shape[0]
    sampled = changed[(np.arange(covered.shape[0]) * scale).astype(int)][
        :, (np.arange(covered.shape[1]) * scale).astype(int)
    ]
    assert sampled[covered.astype(bool)].mean() > 0.95
    boxes = np.zeros_like(covered, dtype=bool)
    for row in found:
        x1, y1, x2, y2 = (round(value) for value in row["box"])
        boxes[max(0, y1 - 20) : y2 + 2, max(0, x1 - 2) : max(x2, x1 + 110) + 2] = True  # with its label
    assert sampled[~boxes].mean() < 0.001


def test_slider_and_classes_act_without_a_request(page: Page) -> None:
    answer = click_sample(page)
    requests: list[Request] = []
    page.on("request", lambda request: requests.append(request))
    for threshold in (0.05, 0.5, 0.9, 0.3):
        page.locator("#score").fill(str(threshold))
        assert rows(page) == expected_rows(answer, threshold)
        expect(page.locator("#score-value")).to_have_text(f"{threshold:.2f}")
        expect(page.locator("#code")).to_contain_text(f"score_threshold={threshold}")
    every = expected_rows(answer, 0.3)
    assert len(every) >= 3
    for name in {row["class"] for row in answer["detections"]}:
        box = page.locator("#classes").get_by_role("checkbox", name=re.compile(f"^{name}"))
        count = sum(row[0] == name for row in every)
        expect(page.locator("#classes label").filter(has_text=name).locator(".count")).to_have_text(str(count))
        box.uncheck()
        assert rows(page) == [row for row in every if row[0] != name]
        box.check()
    assert rows(page) == every
    page.get_by_role("button", name="None of the classes").click()
    assert rows(page) == []
    expect(page.locator("#list-none")).to_be_visible()
    page.get_by_role("button", name="All classes").click()
    assert rows(page) == every
    assert requests == []


def test_pointing_shows_class_score_and_area(page: Page) -> None:
    answer = answer_to(page, lambda: page.click(".sample >> nth=1"))
    page.locator("#score").fill("0.9")
    dog = next(row for row in answer["detections"] if row["class"] == "dog")
    says = f"dog score {dog['score']:.3f} · {coco.area(dog['mask']):,} px"
    tip = page.locator("#tip")
    expect(tip).to_be_hidden()

    point_at(page, answer, dog)
    expect(tip).to_have_text(says)
    expect(page.locator("#list li[aria-selected=true]")).to_contain_text("dog")
    page.mouse.move(2, 2)
    expect(tip).to_be_hidden()

    page.locator("#list li").filter(has_text="dog").hover()
    expect(tip).to_have_text(says)
    page.mouse.move(2, 2)
    expect(tip).to_be_hidden()


def test_zoom_and_pan(page: Page) -> None:
    click_sample(page)
    zoom = page.locator("#zoom")
    whole = canvas_pixels(page)
    expect(zoom).to_have_text("100%")
    page.get_by_role("button", name="Zoom in").click()
    expect(zoom).to_have_text("125%")
    page.get_by_role("button", name="Zoom out").click()
    expect(zoom).to_have_text("100%")

    place = page.locator("#canvas").bounding_box()
    assert place
    middle = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.mouse.move(*middle)
    page.mouse.wheel(0, -500)
    expect(zoom).not_to_have_text("100%")
    page.mouse.move(2, 2)
    before = canvas_pixels(page)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 80, middle[1] + 30, steps=4)
    page.mouse.up()
    page.mouse.move(2, 2)
    after = canvas_pixels(page)
    # Labels keep inside the frame; the picture moves.
    assert (
        np.abs(after[60:200, 90:] - before[30:170, 10:-80].astype(int)).mean()
        < np.abs(after - before.astype(int)).mean() / 3
    )

    page.locator("#canvas").focus()
    page.keyboard.press("0")
    expect(zoom).to_have_text("100%")
    np.testing.assert_array_equal(canvas_pixels(page), whole)
    page.keyboard.press("+")
    page.keyboard.press("+")
    expect(zoom).to_have_text("156%")
    before = canvas_pixels(page)
    page.keyboard.press("ArrowRight")
    assert (canvas_pixels(page) != before).any()
    page.get_by_role("button", name="Fit").click()
    np.testing.assert_array_equal(canvas_pixels(page), whole)


def test_keyboard_alone(page: Page) -> None:
    def tab_to(target: Locator) -> None:
        for _ in range(60):
            if target.evaluate("(element) => element === document.activeElement"):
                return
            page.keyboard.press("Tab")
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", page.evaluate("document.activeElement.outerHTML")
        raise AssertionError("Tab doesn't lead there.")

    tab_to(page.get_by_role("button", name="Choose an image"))
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    answer = answer_to(page, lambda: chooser.value.set_files(PHOTOGRAPH))
    expect(page.locator("#canvas")).to_be_focused()  # the button has gone

    tab_to(page.get_by_role("slider", name="Scores above"))
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#score-value")).to_have_text("0.29")
    tab_to(page.locator("#classes input").first)
    page.keyboard.press("Space")
    assert len(rows(page)) < len(expected_rows(answer, 0.29))
    page.keyboard.press("Space")

    detections = page.get_by_role("listbox", name="Detections")
    tab_to(detections)
    expect(page.locator("#tip")).to_be_visible()
    expected = expected_rows(answer, 0.29)
    page.keyboard.press("End")
    page.keyboard.press("ArrowUp")
    name, score, area = expected[-2]
    expect(page.locator("#tip")).to_have_text(f"{name} score {score} · {int(area):,} px")
    active = detections.get_attribute("aria-activedescendant")
    expect(page.locator(f"#{active}")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Escape")
    expect(page.locator("#tip")).to_be_hidden()

    tab_to(page.get_by_role("tab", name="curl"))
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Python")).to_be_focused()
    expect(page.locator("#code")).to_contain_text("import httpx")
