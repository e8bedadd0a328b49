"""The page of model/serve.py in a real browser, against a server whose answers each test says."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from keyword import iskeyword
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from chromium import PATIENCE, Watched, needs_browser, started_browser
from page_stand_in import PAGE, UNFINISHED, VALID, Answer, PageStandIn, last, token, tokens
from project import STDLIB

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LINES = 300  # of a module
EVIL = '<script>document.title="broken"</script><img src=x onerror="document.title=\'broken\'">'
WRONG = {**VALID, "valid": False, "message": "'(' was never closed", "line": 1, "column": 8}
SCHEMES = ("light", "dark")
KINDS = ("keyword", "constant", "string", "number", "comment", "builtin", "decorator", "defined", "name")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started_browser() as browser:
        yield browser


@pytest.fixture
def server() -> Iterator[PageStandIn]:
    server = PageStandIn()
    server.answers = [Answer([*tokens("\n        ", "return", " None", "\n"), last()])]
    yield server
    server.close()


@pytest.fixture
def page(browser: Browser, server: PageStandIn) -> Iterator[Page]:
    """The page as it opens; afterwards it has said nothing on the console and asked nobody else."""
    watched = Watched(browser)
    open_page(watched.page, server)
    yield watched.page
    watched.close(server.url, may_fail=server.may_fail)


def open_page(page: Page, server: PageStandIn) -> None:
    page.goto(server.url)
    says(page, "#facts", "parameters")
    page.wait_for_selector("#verdict:is(.good, .open, .wrong)")


def text_of(page: Page) -> str:
    return page.locator("#text").input_value()


def write(page: Page) -> None:
    """Press Continue and wait for its end."""
    page.click("#continue")
    page.wait_for_selector("#continue:visible")


def fresh(page: Page, text: str) -> None:
    """Put a text into the editor as a user would."""
    page.locator("#text").fill(text)


def summary(page: Page) -> str:
    return page.inner_text("#summary")


def ends_with(page: Page, end: str) -> None:
    """Wait until the editor's text ends like this."""
    from playwright.sync_api import expect

    expect(page.locator("#text")).to_have_value(re.compile(re.escape(end) + "$"), timeout=PATIENCE)


def says(page: Page, place: str, words: str) -> None:
    """Wait until an element says this among other things."""
    from playwright.sync_api import expect

    expect(page.locator(place)).to_contain_text(words, timeout=PATIENCE)


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.id"))


def source(offset: int, length: int, **more: str) -> dict[str, Any]:
    return {"offset": offset, "length": length, "repo": "o/n", "path": "p.py", "license": "MIT", **more}


def refused(offset: int, text: str, reason: str = "no program goes on like this") -> dict[str, Any]:
    return {"offset": offset, "text": text, "reason": reason}


# What the files are


@pytest.mark.parametrize("file", sorted(PAGE.glob("*.js")), ids=lambda file: file.name)
def test_a_module_has_one_job_that_it_names_and_never_writes_html(file: Any) -> None:
    source = file.read_text("utf-8")
    assert source.startswith("/**")
    assert len(source.splitlines()) <= LINES
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", source
    )


def test_the_page_names_no_foreign_address_and_nothing_inline() -> None:
    for file in PAGE.iterdir():
        addresses = re.findall(r"https?://[^\s\"'`)]+", file.read_text("utf-8"))
        assert [address for address in addresses if "www.w3.org/2000/svg" not in address] == [], file
    markup = (PAGE / "index.html").read_text("utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", markup)


# Writing


@needs_browser
def test_it_opens_with_an_example_a_sentence_and_one_thing_to_press(page: Page) -> None:
    assert page.inner_text("#facts") == "1.8 M parameters · context of 512 tokens · 1.21 bits per byte"
    assert text_of(page).startswith("class Stack:")
    assert "the judge refuses every guess" in page.inner_text(".lead")
    assert page.locator(".primary:visible").all_inner_texts() == ["Continue"]
    assert page.locator("#continue").bounding_box()["y"] < 800  # type: ignore[index]  # without scrolling


@needs_browser
def test_what_is_typed_is_continued_and_the_newest_text_is_judged(page: Page, server: PageStandIn) -> None:
    fresh(page, "")
    page.locator("#text").press_sequentially("def f(x):")
    write(page)
    assert text_of(page) == "def f(x):\n        return None\n"
    (asked,) = server.completions
    assert asked["prompt"] == "def f(x):"
    assert (asked["stream"], asked["valid"], asked["logprobs"], asked["max_tokens"]) == (True, True, 5, 96)
    assert asked["rejected"] and asked["sources"] and "suffix" not in asked
    assert summary(page).startswith("4 tokens in ")
    says(page, "#summary .unseen", "It compiles.")
    page.wait_for_selector("#verdict.good")
    assert server.asked[-1] == ("/v1/judge", {"text": text_of(page)})


@needs_browser
def test_tokens_show_while_the_stream_goes_on_and_stop_keeps_them(page: Page, server: PageStandIn) -> None:
    server.answers = [Answer([*tokens("\n    ", "one", "\n    ", "two"), last()], waits_before=3)]
    before = text_of(page)
    page.click("#continue")
    ends_with(page, "one\n    ")
    assert page.locator("#text").get_attribute("readonly") is not None
    assert page.locator("#sheet").get_attribute("aria-busy") == "true"
    page.keyboard.press("Escape")
    page.wait_for_selector("#continue:visible")
    assert text_of(page) == f"{before}\n    one\n    "
    assert summary(page).startswith("Stopped after 3 tokens")
    server.go_on.set()
    page.click("#undo")
    assert text_of(page) == before
    page.click("#redo")
    assert text_of(page) == f"{before}\n    one\n    "
    assert page.locator("#layer [data-mark]").count() > 0


@needs_browser
def test_undo_takes_back_a_completion_at_once_and_typing_in_pauses(page: Page) -> None:
    page.evaluate("performance.now = () => 100")  # a page that has just been loaded
    fresh(page, "a = 1")
    field = page.locator("#text")
    write(page)
    field.press("Control+End")
    field.press_sequentially("xyz")
    assert text_of(page).endswith("Nonexyz") or text_of(page).endswith("\nxyz")
    field.press("Control+z")
    assert text_of(page).startswith("a = 1\n") and text_of(page)[-1] not in "xyz"
    field.press("Control+z")
    assert text_of(page) == "a = 1"
    field.press("Control+Shift+z")
    field.press("Control+y")
    assert text_of(page).endswith("xyz")


@needs_browser
def test_a_gap_is_filled_at_the_caret_and_the_rest_stays(page: Page, server: PageStandIn) -> None:
    server.answers = [Answer([*tokens("result", " = ", "radius"), last()])]
    assert page.get_by_role("button", name="A gap to fill").count() == 0  # as this model fills none
    server.about["infilling"] = True
    open_page(page, server)
    page.get_by_role("button", name="A gap to fill").click()
    page.keyboard.press("Control+Shift+Enter")
    ends_with(page, "= radius\n    return result\n")
    page.wait_for_selector("#continue:visible")
    assert text_of(page) == "def area(radius):\n    result = radius\n    return result\n"
    assert server.completions[0]["suffix"] == "\n    return result\n"


@needs_browser
def test_offsets_count_characters_whatever_stands_before(page: Page, server: PageStandIn) -> None:
    server.answers = [Answer([*tokens("'🐍🐍'", " + ", "'é'"), last(sources=[source(7, 3)])])]
    fresh(page, "x = '🐍' + ")
    write(page)
    shown = page.locator("#layer [data-mark='1']").all_inner_texts()
    assert "".join(shown) == " + "
    assert page.locator("#why .reason code").inner_text() == "'é'"


# What the text shows


@needs_browser
def test_pointing_at_a_token_shows_the_five_likeliest(page: Page, server: PageStandIn) -> None:
    others = {"None": -1.0, "self": -2.0, "x": -3.0, "y": -4.0}
    server.answers = [Answer([token("\n    return ", 0), token("item", 12, -0.5, **others), last()])]
    write(page)
    box = page.locator("#layer [data-mark='1']").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.wait_for_selector("#odds:visible")
    rows = page.locator("#odds .row").all()
    assert [row.locator("code").inner_text() for row in rows] == ["item", "None", "self", "x", "y"]
    assert [row.locator(".percent").inner_text() for row in rows] == ["61 %", "37 %", "14 %", "5 %", "2 %"]
    assert page.inner_text("#odds .taken").split() == ["item", "61", "%", "taken"]
    assert page.locator("#layer .current").all_inner_texts() == ["item"]
    page.mouse.move(5, 5)
    page.wait_for_selector("#odds", state="hidden")


@needs_browser
def test_the_token_at_the_caret_is_shown_by_keyboard_alone(page: Page, server: PageStandIn) -> None:
    rare = token("\n", 9, -6.0)
    rare["logprobs"]["top_logprobs"] = [{" #": -0.1}]
    server.answers = [Answer([token("\n    pass", 0), rare, last()])]
    field = page.locator("#text")
    field.press("Control+Enter")
    ends_with(page, "pass\n")
    page.wait_for_selector("#continue:visible")
    field.press("Control+End")
    field.press("Control+Space")
    says(page, "#odds", "The caret is in no token of the model's.")
    field.press("ArrowLeft")
    says(page, "#odds", "less likely than these:")
    assert page.locator("#odds code").all_inner_texts() == ["·#", "↵"]
    assert page.get_attribute("#odds", "aria-live") == "polite"
    field.press("ArrowLeft")
    says(page, "#odds", "↵····pass")
    field.press("Escape")
    assert page.locator("#odds").is_hidden()
    assert page.get_attribute("#show-odds", "aria-pressed") == "false"


@needs_browser
def test_another_token_can_be_taken_in_the_place_of_one(page: Page, server: PageStandIn) -> None:
    first = [token("\n    return ", 0), token("a", 12, -0.5, b=-1.0), token(" + 1", 13), last()]
    server.answers = [Answer(first), Answer([*tokens(" - 2"), last()])]
    fresh(page, "def f(a, b):")
    write(page)
    field = page.locator("#text")
    for key in ["Control+End", *["ArrowLeft"] * 5, "Control+Space"]:
        field.press(key)
    says(page, "#odds .taken", "a")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    ends_with(page, "- 2")
    assert text_of(page) == "def f(a, b):\n    return b - 2"
    assert server.completions[1]["prompt"] == "def f(a, b):\n    return b"


@needs_browser
def test_refused_tokens_are_shown_struck_out_on_request(page: Page, server: PageStandIn) -> None:
    first, second, third = tokens("\n    ", "return", " 1")
    second["rejected"] = [refused(5, ")"), refused(5, "    def def\n", "taken back")]
    server.answers = [Answer([first, second, third, last()])]
    fresh(page, "def f():")
    write(page)
    assert "the judge refused 2" in summary(page)
    assert page.locator("#layer del").count() == 0
    page.click("#show-refused")
    assert page.locator("#layer del").all_inner_texts() == [")", "····def·def↵"]
    assert page.locator("#layer del").nth(1).get_attribute("title") == "taken back"
    lines = [(line.text_content() or "") for line in page.locator("#layer .line").all()]
    assert lines == ["def f():", "    )····def·def↵return 1"]
    page.locator("#layer").press("x")
    assert page.locator("#layer del").count() == 0
    assert focused(page) == "text"
    assert text_of(page).startswith("def f():\n    return 1")


@needs_browser
def test_why_names_what_was_refused_and_what_was_copied_from_whom(page: Page, server: PageStandIn) -> None:
    parts = tokens("\n    ", "return", " 1", "\n")
    parts[1]["rejected"] = [refused(5, ")")]
    copied = source(5, 8, repo="pallets/click", path="src/core.py", license="BSD-3-Clause")
    server.answers = [Answer([*parts, last(sources=[copied, source(11, 2, license="")])])]
    fresh(page, "def f():")
    write(page)
    assert "2 passages copied" in summary(page)
    said = page.inner_text("#why-body")
    assert "Refused: 1" in said and "line 2: no program goes on like this" in said
    assert "pallets/click/src/core.py · BSD-3-Clause" in said and "o/n/p.py · licence unknown" in said
    assert page.locator("#layer .copied[data-copy='1']").count() == 1
    page.click("#why-button")
    assert focused(page) == "why"
    page.get_by_role("button", name="pallets/click").click()
    field = "(({ value, selectionStart, selectionEnd }) => value.slice(selectionStart, selectionEnd))"
    assert page.locator("#text").evaluate(field) == "return 1"


@needs_browser
def test_an_edit_keeps_what_is_known_of_the_rest(page: Page, server: PageStandIn) -> None:
    parts = tokens("\n", "alpha", " = ", "beta")
    parts[3]["rejected"] = [refused(9, "(")]
    server.answers = [Answer([*parts, last(sources=[source(1, 5)])])]
    fresh(page, "x = 1")
    write(page)
    field = page.locator("#text")
    field.press("Control+Home")
    field.press_sequentially("# new\n")
    assert page.locator("#layer [data-mark='3']").inner_text() == "beta"
    assert page.locator("#layer .copied").inner_text() == "alpha"
    field.press("Control+End")
    field.press("Backspace")  # half of a token is none
    assert page.locator("#layer [data-mark='3']").count() == 0
    assert page.locator("#why del").inner_text() == "("


# Settings, samples, side by side


@needs_browser
def test_settings_are_sent_and_kept(page: Page, server: PageStandIn) -> None:
    page.check("input[value=off]")
    page.locator("#temperature").fill("0.3")
    page.locator("#length").fill("32")
    page.locator("#seed").fill("7")
    write(page)
    (asked,) = server.completions
    kept = {name: asked[name] for name in ("valid", "temperature", "max_tokens", "seed")}
    assert kept == {"valid": False, "temperature": 0.3, "max_tokens": 32, "seed": 7}
    assert "without the judge" in summary(page)
    page.reload()
    assert page.locator("#seed").input_value() == "7"
    assert page.locator("#temperature-shown").inner_text() == "0.3"
    assert page.locator("input[value=off]").is_checked()
    assert text_of(page).endswith("return None\n")
    page.locator("#samples").fill("99")
    page.locator("#samples").blur()
    assert page.locator("#samples").input_value() == "8"


@needs_browser
def test_samples_are_ranked_what_compiles_first_then_as_the_server_ranks(
    page: Page, server: PageStandIn
) -> None:
    server.judgements = {"two": WRONG}
    names = ("one", "two", "three", "four")
    parts = [{**part, "index": index} for index, name in enumerate(names) for part in tokens(name)]
    ends = [last(0, score=-1.2), last(1, score=-0.1), last(2, score=-0.4)]
    ends = [{**end, "rank": rank} for end, rank in zip(ends, (2, 0, 1), strict=True)]
    ends.append(last(3, score=-0.2, rank=3))
    server.answers = [Answer([*parts, *ends])]
    fresh(page, "x = ")
    page.locator("#samples").fill("4")
    write(page)
    assert (server.completions[0]["n"], server.completions[0]["best"]) == (4, True)
    cards = page.locator(".card").all()
    assert [card.locator(".line").inner_text() for card in cards] == [
        "x = three",
        "x = one",
        "x = four",
        "x = two",
    ]
    assert [card.locator("h3").inner_text() for card in cards] == ["1, the best", "2", "3", "4"]
    assert cards[3].locator(".verdict").inner_text() == "Not Python, line 1: '(' was never closed"
    assert cards[0].locator(".fine").inner_text() == "a token was 67 % likely on average"
    cards[1].get_by_role("button", name="Use this one").click()
    assert text_of(page) == "x = one"
    page.locator("#text").press("Control+z")
    assert text_of(page) == "x = "


@needs_browser
def test_the_same_seed_with_and_without_the_judge_stands_side_by_side(
    page: Page, server: PageStandIn
) -> None:
    write(page)
    server.judgements = {"return None": {**WRONG, "line": 8}}
    page.get_by_role("button", name="Compare without the judge").click()
    page.wait_for_selector(".card .wrong-line")
    assert page.locator(".card h3").all_inner_texts() == ["With the judge", "Without the judge"]
    first, *compared = server.completions
    assert sorted(asked["valid"] for asked in compared) == [False, True]
    assert {(asked["seed"], asked["prompt"]) for asked in compared} == {(first["seed"], first["prompt"])}
    page.get_by_role("button", name="Close").click()
    assert page.locator("#drafts").is_hidden()


# Errors


@needs_browser
def test_a_prompt_that_is_not_python_is_marked_where_cpython_says(page: Page, server: PageStandIn) -> None:
    server.judgements = {"(radius:": WRONG}
    page.get_by_role("button", name="Not Python").click()
    page.wait_for_selector("#verdict.wrong")
    assert page.inner_text("#verdict") == "Not Python, line 1: '(' was never closed"
    assert page.locator("#layer .wrong-line").inner_text() == "def area(radius:"
    page.click("#continue")
    page.wait_for_selector("#notice:visible")
    assert "In line 1: '(' was never closed" in page.inner_text("#notice")
    assert server.completions == []
    page.get_by_role("button", name="Continue without the judge").click()
    ends_with(page, "None\n")
    assert server.completions[0]["valid"] is False


@needs_browser
def test_an_unfinished_text_is_no_error(page: Page, server: PageStandIn) -> None:
    server.judgements = {"if x:": UNFINISHED}
    fresh(page, "if x:")
    page.wait_for_selector("#verdict.open")
    assert "can still become a program" in page.inner_text("#verdict")
    assert page.locator(".wrong-line").count() == 0


@needs_browser
def test_a_busy_server_is_asked_again_when_it_says(page: Page, server: PageStandIn) -> None:
    server.may_fail = True
    busy = Answer(status=503, headers={"Retry-After": "3"}, error="the queue is full")
    server.answers = [busy, Answer([*tokens("\n        pass"), last()])]
    page.click("#continue")
    says(page, "#summary", "Trying again in 3 s")
    ends_with(page, "pass")
    assert len(server.completions) == 2


@needs_browser
def test_waiting_for_a_busy_server_can_be_stopped(page: Page, server: PageStandIn) -> None:
    server.may_fail = True
    server.answers = [Answer(status=503, headers={"Retry-After": "20"}, error="the queue is full")]
    page.click("#continue")
    says(page, "#summary", "Trying again in 20 s")
    page.click("#stop")
    page.wait_for_selector("#continue:visible")
    assert summary(page).startswith("Stopped") and len(server.completions) == 1


@needs_browser
def test_a_key_is_asked_for_and_kept_for_the_tab_alone(page: Page, server: PageStandIn) -> None:
    server.may_fail = True
    page.wait_for_load_state("networkidle")  # an open question would bring up the dialog
    server.key = "secret"
    page.click("#continue")
    page.wait_for_selector("#key-dialog[open]")
    page.fill("#key", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#key-wrong:visible")
    page.fill("#key", "secret")
    page.keyboard.press("Enter")
    ends_with(page, "None\n")
    assert page.evaluate("Object.values(sessionStorage).includes('secret')")
    assert not page.evaluate("JSON.stringify(localStorage).includes('secret') || document.cookie")
    page.reload()
    says(page, "#facts", "parameters")
    assert not page.locator("#key-dialog").is_visible()


@needs_browser
def test_who_has_no_key_is_told_so(page: Page, server: PageStandIn) -> None:
    server.may_fail = True
    page.wait_for_load_state("networkidle")  # an open question would bring up the dialog
    server.key = "secret"
    page.click("#continue")
    page.wait_for_selector("#key-dialog[open]")
    page.keyboard.press("Escape")
    says(page, "#notice", "API key")


@needs_browser
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(tokens("\n        pass"), error="the model was replaced"), "The model was replaced."),
        (
            Answer(tokens("\n        pass"), is_cut=True),
            "The connection broke off; what had arrived is kept.",
        ),
    ],
    ids=["an error in it", "a connection that breaks"],
)
def test_a_stream_that_ends_badly_leaves_what_had_arrived(
    page: Page, server: PageStandIn, answer: Answer, said: str
) -> None:
    server.answers = [answer, Answer([*tokens("\n        return"), last()])]
    before = text_of(page)
    page.click("#continue")
    page.wait_for_selector("#notice:visible")
    assert page.locator("#notice p").inner_text() == said
    assert text_of(page) == f"{before}\n        pass"
    page.get_by_role("button", name="Try again").click()
    ends_with(page, "return")
    assert text_of(page) == f"{before}\n        return"


@needs_browser
def test_what_the_server_refuses_is_said_in_its_words(page: Page, server: PageStandIn) -> None:
    server.may_fail = True
    server.answers = [Answer(status=400, error="the prompt is too long: 2 MB: send at most 1 MB")]
    before = text_of(page)
    page.click("#continue")
    says(page, "#notice", "The prompt is too long: 2 MB: send at most 1 MB.")
    assert text_of(page) == before


@needs_browser
def test_a_server_that_is_gone_is_named_and_the_text_stays(page: Page, server: PageStandIn) -> None:
    server.may_fail = True
    before = text_of(page)
    server.close()
    page.click("#continue")
    says(page, "#notice", "The server does not answer")
    assert text_of(page) == before


@needs_browser
def test_names_and_texts_of_others_are_text_and_nothing_else(page: Page, server: PageStandIn) -> None:
    part = token(EVIL, 0, -3.0, **{EVIL + "2": -0.1})
    part["rejected"] = [refused(0, EVIL, EVIL)]
    copied = source(0, len(EVIL), repo=EVIL, path=EVIL, license=EVIL)
    card = f"# {EVIL}\n\n{EVIL} [x](javascript:alert(1)) `{EVIL}`"
    server.about = {**server.about, "name": EVIL, "card": card}
    server.answers = [Answer([part, last(sources=[copied])])]
    server.judgements = {EVIL: {**WRONG, "message": EVIL}}
    open_page(page, server)
    write(page)
    page.click("#show-refused")
    page.click("#show-refused")
    page.click("#show-odds")
    page.get_by_role("button", name="Compare without the judge").click()
    page.wait_for_selector(".card .verdict.wrong")
    page.click("#tab-card")
    page.wait_for_selector("#card h1")
    assert page.title() == f"{EVIL} · GPyT"
    assert page.locator("main script, main img, a[href^=javascript]").count() == 0
    assert EVIL in page.inner_text("#card")


# Everybody's page


@needs_browser
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_window(page: Page, server: PageStandIn, width: int) -> None:
    long = "a_name_without_any_end" * 12
    parts = tokens(f"\n        return {long}", "\n")
    parts[1]["rejected"] = [refused(2, long, long)]
    card = f"# {long}\n\n| a | b |\n|---|---|\n| `{long}` | {long} |\n\n```\n{long}\n```\n"
    server.about = {**server.about, "card": card, "has_loss_plot": True, "has_scores": True}
    server.answers = [Answer([*parts, last(sources=[source(0, 20, repo=long, path=long, license=long)])])]
    page.set_viewport_size({"width": width, "height": 760})
    open_page(page, server)

    def check() -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wide = "element => element.scrollWidth > element.clientWidth + 1"
        assert page.locator("#scroller").evaluate(wide) is False

    check()
    button = page.locator("#continue").bounding_box()
    assert button is not None and button["y"] + button["height"] <= 760  # without scrolling
    write(page)
    check()
    page.click("#show-refused")
    check()
    page.click("#show-odds")
    page.locator("#text").press("Control+End")
    page.locator("#text").press("ArrowLeft")
    check()
    box = page.locator("#odds").bounding_box()
    assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width
    page.get_by_role("button", name="Compare without the judge").click()
    page.wait_for_selector(".card .verdict.good")
    check()
    page.click("#tab-card")
    page.wait_for_selector("#card h1")
    check()


@needs_browser
def test_the_field_breaks_its_lines_where_the_layer_does(page: Page) -> None:
    """Else the caret would stand beside the letter that it is at."""
    random = Random(5)
    words = [
        "x",
        "longer_name",
        "    ",
        "\t",
        "日本語の文字",
        "🐍🐍",
        "é",
        "()",
        "a" * 90,
        "\n",
        "   \n",
        "-",
        "=",
        ".",
    ]
    heights = "[document.querySelector('#text').scrollHeight, document.querySelector('#layer').offsetHeight]"
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 760})
        for _ in range(20):
            fresh(page, "".join(random.choices(words, k=60)) + "\n" * 30)
            field, layer = page.evaluate(heights)
            assert abs(field - layer) <= 1, text_of(page)


@needs_browser
def test_everything_can_be_reached_and_named_by_keyboard(page: Page) -> None:
    write(page)
    page.focus(".skip")
    name = "document.activeElement.id || document.activeElement.textContent.trim()"
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(name))
    must = "tab-write theme text continue undo why-button show-tint show-refused show-odds"
    must += " temperature length samples seed"
    assert set(must.split()) <= set(reached)
    assert reached.index("text") < reached.index("continue") < reached.index("temperature")
    unnamed = page.evaluate(
        """[...document.querySelectorAll('button, input, textarea')].filter((element) =>
            element.offsetParent && !(element.getAttribute('aria-label') || element.textContent.trim() ||
            element.labels?.length)).map((element) => element.outerHTML)"""
    )
    assert unnamed == []


@needs_browser
def test_a_completion_needs_no_mouse(page: Page) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # "Skip to the editor"
    assert focused(page) == "text"
    page.keyboard.press("Control+End")
    page.keyboard.press("Enter")  # indented further after the colon
    page.keyboard.type("x = 1")
    assert text_of(page).endswith("item):\n        x = 1")
    page.keyboard.press("Control+Enter")
    ends_with(page, "None\n")
    page.wait_for_selector("#continue:visible")
    assert focused(page) == "text"


@needs_browser
def test_continue_and_stop_hand_on_the_focus(page: Page, server: PageStandIn) -> None:
    server.answers = [Answer([*tokens("\n        pass"), last()], waits_before=1)]
    page.focus("#continue")
    page.keyboard.press("Enter")
    page.wait_for_selector("#stop:visible")
    assert focused(page) == "stop"
    page.keyboard.press("Enter")
    page.wait_for_selector("#continue:visible")
    assert focused(page) == "continue"


@needs_browser
def test_dark_and_light_follow_the_system_until_somebody_chooses(page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert dark != light
    page.click("#theme")
    assert page.evaluate(ground) == light
    page.reload()
    assert page.evaluate(ground) == light
    assert page.get_attribute("#theme", "aria-label") == "Switch to dark"


def luminance(colour: tuple[float, float, float]) -> float:
    """Relative luminance. Source: WCAG 2.2, definitions."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (c / 255 for c in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG's contrast of two colours as the browser names them."""
    values = []
    for colour in (one, other):
        red, green, blue, *alpha = map(float, re.findall(r"[\d.]+", colour))
        assert alpha in ([], [1.0]), colour
        values.append(luminance((red, green, blue)))
    return (max(values) + 0.05) / (min(values) + 0.05)


@needs_browser
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_kind_of_token_can_be_read_on_every_tint(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    colours = page.evaluate(
        """(kinds) => kinds.flatMap((kind) => [0, 1, 2, 3].map((level) => {
            const span = document.createElement("span");
            span.className = `k-${kind} t${level}`;
            document.querySelector("#layer").append(span);
            const { color, backgroundColor } = getComputedStyle(span);
            span.remove();
            return [`${kind} on ${level}`, color, backgroundColor];
        }))""",
        list(KINDS),
    )
    assert len(colours) == 4 * len(KINDS)
    assert {name: value for name, *both in colours if (value := contrast(*both)) < 4.5} == {}


@needs_browser
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_text_on_the_page_can_be_read(page: Page, server: PageStandIn, scheme: Any) -> None:
    server.judgements = {"return None": {**WRONG, "line": 8}}
    parts = tokens("\n        ", "return", " None", "\n")
    parts[1]["rejected"] = [refused(9, ")")]
    server.answers = [Answer([*parts, last(sources=[source(9, 6)])])]
    page.emulate_media(color_scheme=scheme)
    write(page)
    page.get_by_role("button", name="Compare without the judge").click()
    page.wait_for_selector(".card .verdict.wrong")
    page.get_by_role("button", name="Use this one").first.wait_for()
    page.locator("#show-odds").click()
    page.locator("#text").press("Control+End")
    page.locator("#text").press("ArrowLeft")
    colours = page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter((element) => element.offsetParent &&
            !element.closest(":disabled, [hidden]") && element.id !== "text" &&
            [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())
        ).map((element) => {
            let under = element;
            const ground = () => getComputedStyle(under).backgroundColor;
            while (ground() === "rgba(0, 0, 0, 0)") under = under.parentElement;
            return [element.textContent.trim(), getComputedStyle(element).color, ground()];
        })"""
    )
    assert len(colours) > 60
    assert {text: value for text, *both in colours if (value := contrast(*both)) < 4.5} == {}


@needs_browser
def test_likelihood_has_a_sign_besides_colour(page: Page, server: PageStandIn) -> None:
    parts = [
        token(text, place, logprob)
        for place, (text, logprob) in enumerate(
            {"\n": -0.3, "a": -0.1, "b": -1.0, "c": -3.0, "d": -7.0}.items()
        )
    ]
    server.answers = [Answer([*parts, last()])]
    write(page)
    shadow = "element => getComputedStyle(element).boxShadow"
    looks = [page.locator(f"#layer [data-mark='{mark}']").evaluate(shadow) for mark in (1, 2, 3, 4)]
    assert looks[:2] == ["none", "none"] and "0px -1px" in looks[2] and "0px -3px" in looks[3]
    page.click("#show-tint")
    assert page.locator("#layer [data-mark='4']").evaluate(shadow) == "none"


# The other tabs

CARD = """---
license: other
---
# A card

Some text with `code`,
and [a link](https://example.org/), [a file](README.md).

* one
* two

| a | b |
|---|---|
| 1 | 2 |

![curve](loss.png)

```python
x = 1
```
"""


@needs_browser
def test_card_curve_and_scores_are_a_tab_away_where_they_exist(page: Page, server: PageStandIn) -> None:
    from PIL import Image

    assert page.locator("[role=tab]:visible").all_inner_texts() == ["Write"]
    picture = io.BytesIO()
    Image.new("RGB", (1, 1)).save(picture, "PNG")
    server.about = {**server.about, "card": CARD, "has_scores": True, "has_loss_plot": True}
    server.files = {
        "/loss.png": ("image/png", picture.getvalue()),
        "/scores.html": ("text/html", b"<!doctype html><title>s</title><h1>Scores</h1>"),
    }
    open_page(page, server)
    assert page.locator("[role=tab]:visible").all_inner_texts() == [
        "Write",
        "Model card",
        "Training",
        "Scores",
    ]
    page.focus("#tab-write")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#card h1")
    assert page.inner_text("#card h1") == "A card" and "license" not in page.inner_text("#card")
    assert page.locator("#card li").all_inner_texts() == ["one", "two"]
    assert page.locator("#card td, #card th").all_inner_texts() == ["a", "b", "1", "2"]
    assert page.inner_text("#card pre") == "x = 1"
    assert [link.get_attribute("href") for link in page.locator("#card a").all()] == ["https://example.org/"]
    assert page.locator("#card img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 1
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#curve img")
    page.keyboard.press("End")
    assert page.frame_locator("#scores iframe").locator("h1").inner_text() == "Scores"
    page.keyboard.press("Home")
    assert page.locator("#text").is_visible()


# Highlighting


def tokens_of_python(text: str) -> list[list[Any]]:
    """Comments, strings, numbers and keywords of a text as Python itself finds them: [start, end, kind]."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    kinds = {tokenize.COMMENT: "comment", tokenize.STRING: "string", tokenize.NUMBER: "number"}
    found: list[list[Any]] = []
    for item in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = kinds.get(item.type)
        if (
            item.type == tokenize.NAME
            and iskeyword(item.string)
            and item.string not in ("True", "False", "None")
        ):
            kind = "keyword"
        if kind:
            (row, column), (last_row, last_column) = item.start, item.end
            found.append([starts[row - 1] + column, starts[last_row - 1] + last_column, kind])
    return found


@needs_browser
def test_comments_strings_numbers_and_keywords_are_those_that_python_finds(page: Page) -> None:
    compared = 0
    for file in sorted(STDLIB.glob("*.py"))[::8]:
        text = file.read_text("utf-8")
        if re.search(r"\b[rR]?[fF][rR]?[\"']", text) or len(text) > 100_000:  # 3.12 takes f-strings apart
            continue
        found = page.evaluate(
            """async (text) => (await import("/page/highlight.js")).syntaxTokens(text)
                .map(({start, end, kind}) => [start, end, kind])""",
            text,
        )
        shown = ("comment", "string", "number", "keyword")
        soft = ("match", "case", "type")
        mine = [item for item in found if item[2] in shown and text[item[0] : item[1]] not in soft]
        expected = tokens_of_python(text)
        assert mine == expected, file
        compared += len(expected)
    assert compared > 3_000


@needs_browser
def test_whatever_is_typed_is_cut_without_loss(page: Page) -> None:
    texts = [
        "'open",
        '"""open\n and on',
        "'a\\",
        '"""a\\',
        "def",
        "@",
        "0x",
        "1e",
        "f'{x",
        "\\",
        "é\u2028x",
        '""""',
    ]
    found = page.evaluate(
        """async (texts) => { const { linesOf } = await import("/page/segments.js");
            const { plain } = await import("/page/doc.js");
            const joined = (lines) => lines.map((line) => line.map(({text}) => text).join("")).join("\\n");
            return texts.map((text) => joined(linesOf(plain(text), false))); }""",
        texts,
    )
    assert found == texts


@needs_browser
def test_a_long_text_can_be_pasted_and_typed_in(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    text = (STDLIB / "typing.py").read_text("utf-8")[:40_000]
    fresh(page, "")
    page.evaluate("text => navigator.clipboard.writeText(text.replaceAll('\\n', '\\r\\n'))", text)
    page.locator("#text").press("Control+v")
    assert text_of(page) == text
    script = """() => { const field = document.querySelector("#text");
        field.setSelectionRange(20000, 20000); const began = performance.now();
        for (const letter of "abcdefghij") document.execCommand("insertText", false, letter);
        return (performance.now() - began) / 10; }"""
    milliseconds = page.evaluate(script)
    assert text_of(page) == f"{text[:20_000]}abcdefghij{text[20_000:]}"
    print(f"{milliseconds:.0f} ms a key")
    assert milliseconds < 2_000  # a regular expression that is not linear would take minutes
    page.locator("#text").press("Control+z")
    page.locator("#text").press("Control+z")
    assert text_of(page) == ""
