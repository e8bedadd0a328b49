"""Record the page of model/serve.py at work as a picture: GPyT/ -> docs/page.png.

    python docs/record_page.py
    python docs/record_page.py --model GPyT --output docs/page.png --seed 7 --point-at 12

Starts the server, opens its page in Chromium (`apt install chromium`), presses Continue, and points at one
of the tokens that the model wrote. Anybody who does the same with that model sees the same.
"""

from __future__ import annotations

import argparse
import io
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 1280, 880  # pixels of the page; the picture has twice as many
COLOURS = 192  # of the picture: a page has few, and a palette makes it a third as large
START_SECONDS = 120  # the first start compiles the kernels


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    """Until the server answers. Raises: SystemExit if it ends or does not in time."""
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit("error: the server did not start: see its lines above")


def picture(url: str, browser: str, options: argparse.Namespace) -> bytes:
    """The page after a completion, as a PNG."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser)
        page = chromium.new_page(
            viewport={"width": WIDTH, "height": HEIGHT},
            device_scale_factor=2,
            color_scheme=options.scheme,
        )
        page.goto(url)
        page.wait_for_selector("#verdict:is(.good, .open)")
        page.fill("#seed", str(options.seed))
        page.fill("#length", str(options.max_new_tokens))
        page.click("#continue")
        page.wait_for_selector("#continue:visible")
        page.wait_for_selector("#verdict:is(.good, .open, .wrong)")
        token = page.locator(f"#layer [data-mark='{options.point_at}']").last
        token.scroll_into_view_if_needed()
        place = token.bounding_box()
        if place is None:
            raise SystemExit(f"error: there is no token {options.point_at}: see --point-at")
        page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        page.wait_for_selector("#odds:visible")
        print(page.input_value("#text"))
        shot = page.screenshot()
        chromium.close()
    return shot


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, default=Path("GPyT"), help="the model's folder (default: GPyT)")
    output = PROJECT / "docs/page.png"
    add("--output", type=Path, default=output, help="the picture (default: docs/page.png)")
    add("--seed", type=int, default=7, help="of what is written (default: 7)")
    add("--max-new-tokens", type=int, default=96, help="of the completion (default: 96)")
    add("--point-at", type=int, default=12, help="which of the new tokens is pointed at (default: 12)")
    add("--scheme", choices=("light", "dark"), default="light", help="colours (default: light)")
    return parser


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    from PIL import Image

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("error: no browser: apt install chromium", file=sys.stderr)
        return 1
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    script = [sys.executable, str(PROJECT / "model/serve.py"), "--model", str(options.model)]
    server = subprocess.Popen([*script, "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        wait_for(url, server)
        shot = picture(url, browser, options)
    finally:
        server.terminate()
        server.wait(20)
    image = Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(options.output, optimize=True)
    print(f"wrote {options.output.absolute()} ({options.output.stat().st_size / 1e3:.0f} kB)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
