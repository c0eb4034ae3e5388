"""Pictures of the page from a real run of the demo, into docs/images.

python scripts/screenshots.py [--chromium /usr/bin/chromium]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

TARGET = Path(__file__).parent.parent / "docs" / "images"
WIDE, PHONE = {"width": 1440, "height": 1080}, {"width": 390, "height": 844}
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
PORT = 7869
LONG = 600_000  # milliseconds: the demo takes one to three minutes
PROGRESS = "Number(document.querySelector('.geko-progress').getAttribute('aria-valuenow'))"


def open_page(browser: Browser, viewport: dict[str, int], scheme: str) -> Page:
    """A tab of its own on the page."""
    context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(LONG)
    page.goto(f"http://127.0.0.1:{PORT}")
    page.wait_for_selector("#geko-start")
    page.wait_for_function("window.Plotly !== undefined")
    return page


def shoot(page: Page, name: str, *, whole: bool = False) -> None:
    """One picture, once nothing on the page moves."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.screenshot(path=TARGET / f"{name}.png", full_page=whole, animations="disabled")
    print(f"{name}.png")


def take_all(browser: Browser) -> None:
    """Before, while and after training; light, dark, phone."""
    wide = open_page(browser, WIDE, "light")
    shoot(wide, "train-ready")
    wide.click("#geko-start")
    wide.wait_for_function(f"{PROGRESS} >= 60")
    others = {"train-running-dark": (WIDE, "dark"), "train-running-phone": (PHONE, "light")}
    for name, (viewport, scheme) in others.items():
        page = open_page(browser, viewport, scheme)
        page.wait_for_selector(".geko-bars .bar")
        if viewport is PHONE:
            page.evaluate("document.querySelector('#geko-live').scrollIntoView()")
        shoot(page, name)
        page.context.close()
    wide.evaluate("scrollTo(0, 0)")
    shoot(wide, "train-running")
    wide.wait_for_selector(".geko-status[data-phase=complete]")
    wide.wait_for_selector(".geko-summary:not([hidden])")
    shoot(wide, "train-complete", whole=True)
    take_pages(browser, wide)


def take_pages(browser: Browser, page: Page) -> None:
    """The look before a start, and the other pages: of the run that has just ended, and of its control."""
    page.click("#geko-preview-button")
    page.wait_for_selector(".l-memory:not([hidden])")
    shoot(page, "look")
    page.click(".l-close")
    finished = page.locator(".geko-runs").input_value()
    page.get_by_role("button", name="Run the control").click()
    page.wait_for_function(f"document.querySelector('.geko-runs').value !== '{finished}'")
    page.wait_for_selector(".geko-status[data-phase=complete]")
    for scheme, viewport, name in (("light", WIDE, ""), ("dark", WIDE, "-dark"), ("light", PHONE, "-phone")):
        tab = open_page(browser, viewport, scheme)
        samples(tab, finished, name)
        runs(tab, name)
        talk(tab, name)
        tab.context.close()


def turn_to(page: Page, name: str) -> None:
    """Another page of the app."""
    page.get_by_role("tab", name=name).click()
    page.wait_for_timeout(1500)  # charts move into their places; nobody waits for a picture


def samples(page: Page, run: str, name: str) -> None:
    """All samples with the map of the data, and one of them opened."""
    turn_to(page, "Samples")
    page.locator("#geko-samples .geko-runs").select_option(run)
    page.wait_for_timeout(1500)
    shoot(page, f"samples{name}")
    page.locator("#geko-samples .m-open").first.click()
    page.wait_for_selector(".m-one:not([hidden])")
    shoot(page, f"sample{name}")


def runs(page: Page, name: str) -> None:
    """Both runs over one another, the sentence of the control under them."""
    turn_to(page, "Runs")
    for box in page.locator(".r-table tbody input").all():
        box.check()
    page.wait_for_selector(".p-control:not([hidden])")
    page.locator(".p-compare").scroll_into_view_if_needed()
    page.wait_for_timeout(1500)
    shoot(page, f"runs{name}")


def talk(page: Page, name: str) -> None:
    """A question to both models."""
    turn_to(page, "Playground")
    page.locator(".t-prompt").fill("Tom has 6 figs, gets 5 more and loses 5. How many figs?")
    page.locator(".t-answer").fill("6")
    page.locator(".t-send").click()
    page.wait_for_function(
        "[...document.querySelectorAll('.geko-playground')].some((e) => e.textContent.includes('tokens/s'))"
    )
    page.wait_for_timeout(3000)
    shoot(page, f"try-it{name}")


def main() -> None:
    """Entry of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    options = parser.parse_args()
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "geko_app", "--port", str(PORT), "--runs", "runs"]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            print(server.stdout.readline().strip())  # the address, printed once the page answers
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=options.chromium, args=ARGUMENTS)
                take_all(browser)
                browser.close()
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
