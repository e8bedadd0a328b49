"""The page as model/serve.py serves it, with a model behind it: real streams, real headers, real ends."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chromium import Watched, needs_browser, started_browser
from server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_browser
KEY = "0123456789abcdef0123456789abcdef"
VERDICT = "#verdict:is(.good, .open, .wrong)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started_browser() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: ServerProcess) -> Iterator[Page]:
    watched = Watched(browser)
    watched.page.goto(server.address)
    watched.page.wait_for_selector(VERDICT)
    yield watched.page
    watched.close(server.address)


def text_of(page: Page) -> str:
    return page.locator("#text").input_value()


def write(page: Page, button: str = "#continue") -> None:
    page.click(button)
    page.wait_for_selector("#continue:visible")
    page.wait_for_selector(VERDICT)


def write_at_length(page: Page) -> str:
    """What the model writes with the first seed with which it writes more than some tokens."""
    before = text_of(page)
    for seed in range(3, 12):
        page.fill("#seed", str(seed))
        write(page)
        written = text_of(page).removeprefix(before)
        if len(written) > 20 and len("".join(marks(page)).strip()) > 0.8 * len(written.strip()):
            return written
        page.locator("#text").press("Control+z")
    raise AssertionError("this model writes hardly anything")


def marks(page: Page) -> list[str]:
    """The text of each token that the page shows, line ends aside."""
    found: dict[str, str] = {}
    for span in page.locator("#layer [data-mark]").all():
        number = span.get_attribute("data-mark") or ""
        found[number] = found.get(number, "") + (span.text_content() or "")
    return list(found.values())


def test_a_completion_compiles_and_every_character_of_it_belongs_to_a_token(page: Page) -> None:
    assert re.search(r"M parameters · context of \d+ tokens", page.inner_text("#facts"))
    before = text_of(page)
    written = write_at_length(page)
    assert text_of(page).startswith(before)
    assert page.inner_text("#verdict") == "It compiles."
    shown = "".join(marks(page))
    # what ends a text so that it compiles was drawn from no distribution: it may have no token
    assert re.sub(r"\s", "", written).startswith(re.sub(r"\s", "", shown))
    assert len(re.sub(r"\s", "", shown)) > 0.8 * len(re.sub(r"\s", "", written))
    page.locator("#text").press("Control+z")
    assert text_of(page) == before
    write(page)
    assert text_of(page) == before + written  # the same seed


def test_a_token_has_five_alternatives_of_which_one_can_be_taken(page: Page) -> None:
    write_at_length(page)
    page.check("input[value=off]")  # the likeliest of all tokens may be one after which nothing compiles
    box = page.locator("#layer [data-mark]").nth(2).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#odds:visible")
    shares = [
        float(re.sub(r"[^\d.]", "", share)) for share in page.locator("#odds .percent").all_inner_texts()[:5]
    ]
    assert len(shares) == 5 and shares == sorted(shares, reverse=True) and sum(shares) < 103
    other = page.locator("#odds button.row:not(:disabled)").first
    other.click()
    page.wait_for_selector("#summary:has-text('seed')")
    page.wait_for_selector("#continue:visible")
    page.wait_for_selector(VERDICT)


def test_side_by_side_and_samples_arrive_on_their_cards(page: Page) -> None:
    page.check("input[value=both]")
    write(page)
    page.wait_for_selector(".card .verdict.good")
    assert page.locator(".card").count() == 2
    assert page.locator(".card").first.locator(".verdict").inner_text() == "It compiles."
    assert page.locator(".card button:enabled").count() == 2
    page.check("input[value=on]")
    page.fill("#samples", "3")
    write(page)
    assert page.locator(".card .verdict").all_inner_texts() == ["It compiles."] * 3
    assert page.locator(".card h3").all_inner_texts() == ["1, the best", "2", "3"]


def test_what_fills_a_gap_leaves_the_file_valid(page: Page) -> None:
    page.locator("#text").fill("def area(radius):\n    x = \n    return radius\n")
    page.locator("#text").press("Control+Home")
    page.locator("#text").press("ArrowDown")
    page.locator("#text").press("End")
    page.wait_for_selector("#fill:visible")
    write(page, "#fill")
    assert text_of(page).startswith("def area(radius):\n    x = ")
    assert text_of(page).endswith("\n    return radius\n")
    compile(text_of(page), "page", "exec")  # it is not run


def test_cpython_judges_what_is_typed(page: Page) -> None:
    page.get_by_role("button", name="Not Python").click()
    page.wait_for_selector("#verdict.wrong")
    assert page.inner_text("#verdict") == "Not Python, line 1: '(' was never closed"
    page.locator("#text").fill("def f(x):")
    page.wait_for_selector("#verdict.open")
    page.locator("#text").fill("x = 1")
    page.wait_for_selector("#verdict.good")


def test_card_and_curve_are_shown(page: Page) -> None:
    page.click("#tab-card")
    page.wait_for_selector("#card h1")
    assert "bits per byte" in page.inner_text("#card")
    page.click("#tab-curve")
    size = "image => image.decode().then(() => image.naturalWidth)"
    assert page.locator("#curve img").evaluate(size) > 300


def test_with_a_key_the_page_asks_for_it(browser: Browser, model_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "key.txt"
    file.write_text(f"{KEY}\n", "utf-8")
    file.chmod(0o600)
    with ServerProcess(model_folder, "--api-key-file", file) as server:
        watched = Watched(browser)
        page = watched.page
        page.goto(server.address)
        page.wait_for_selector("#key-dialog[open]")
        page.fill("#key", "not this one")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key-wrong:visible")
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector(VERDICT)
        before = text_of(page)
        write(page)
        assert len(text_of(page)) > len(before)
        page.click("#tab-curve")
        page.wait_for_selector("#curve img")
        watched.close(server.address, may_fail=True)


def test_a_server_that_dies_while_it_writes_is_named(browser: Browser, model_folder: Path) -> None:
    with ServerProcess(model_folder) as server:
        watched = Watched(browser)
        page = watched.page
        page.goto(server.address)
        page.wait_for_selector(VERDICT)
        before = text_of(page)
        page.fill("#length", "512")
        server.process.send_signal(signal.SIGSTOP)  # it would be done with a short text before it dies
        page.click("#continue")
        page.wait_for_selector("#stop:visible")
        server.process.kill()
        page.wait_for_selector("#notice:visible")
        assert re.search("does not answer|connection broke off", page.inner_text("#notice"))
        assert text_of(page).startswith(before)
        watched.close(server.address, may_fail=True)
