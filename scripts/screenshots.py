"""The six pictures of the page in docs/images, from a real run of the demo and its plain baseline.

python scripts/screenshots.py [--chromium /usr/bin/chromium] [--target docs/images]
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

TARGET = Path(__file__).parent.parent / "docs" / "images"
WIDE, PHONE = {"width": 1360, "height": 1000}, {"width": 390, "height": 844}
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
PORT = 7869
LONG = 600_000  # milliseconds: the demo takes one to three minutes
COLORS = 128  # of a picture: text stays sharp, and the file is a third as large
PROGRESS = "Number(document.querySelector('.geko-progress').getAttribute('aria-valuenow'))"


class Camera:
    """Takes pictures of one server's pages.

    Args:
        browser: Chromium.
        target: folder for the pictures.
    """

    def __init__(self, browser: Browser, target: Path) -> None:
        self._browser, self._target = browser, target

    def open(self, viewport: dict[str, int] = WIDE, scheme: str = "light") -> Page:
        """A tab of its own on the page."""
        context = self._browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.set_default_timeout(LONG)
        page.goto(f"http://127.0.0.1:{PORT}")
        page.wait_for_selector("#geko-start")
        page.wait_for_function("window.Plotly !== undefined && document.body.dataset.form === 'ready'")
        return page

    def shoot(self, page: Page, name: str) -> None:
        """One compressed picture, once nothing on the page moves."""
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        shown = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
        path = self._target / f"{name}.png"
        shown.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


def take_all(camera: Camera) -> None:
    """The running demo, then the other pages with the ended run and its plain baseline."""
    page = camera.open()
    page.click("#geko-start")
    page.wait_for_function(f"{PROGRESS} >= 60")
    page.evaluate("scrollTo(0, 0)")
    camera.shoot(page, "train-running")
    phone = camera.open(PHONE, "dark")
    phone.wait_for_selector(".geko-bars .bar")
    phone.evaluate("document.querySelector('#geko-live').scrollIntoView()")
    camera.shoot(phone, "phone-dark")
    phone.context.close()
    page.wait_for_selector(".geko-status[data-phase=complete]")
    finished = page.locator("#geko-live .geko-runs").input_value()
    take_preview(camera, page)
    page.get_by_role("button", name="Run the baseline").click()
    page.wait_for_function(f"document.querySelector('#geko-live .geko-runs').value !== '{finished}'")
    page.wait_for_selector(".geko-status[data-phase=complete]")
    take_samples(camera, page, finished)
    take_runs(camera, page)
    take_playground(camera, page)


def take_preview(camera: Camera, page: Page) -> None:
    """The preview of the demo's data and memory."""
    page.click("#geko-preview-button")
    page.wait_for_selector(".l-memory:not([hidden])")
    page.evaluate("document.querySelector('.geko-preview').scrollIntoView()")
    camera.shoot(page, "preview")
    page.click(".l-close")


def open_tab(page: Page, name: str) -> None:
    """Another page of the app."""
    page.get_by_role("tab", name=name).click()
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(1500)  # charts resize; no test waits here


def take_samples(camera: Camera, page: Page, run: str) -> None:
    """The samples of a run, one of them opened."""
    open_tab(page, "Samples")
    page.locator("#geko-samples .geko-runs").select_option(run)
    page.locator(".m-chip.suspicious").click()
    page.locator("#geko-samples .m-open").first.click()
    page.wait_for_selector(".m-one:not([hidden])")
    page.wait_for_timeout(1500)
    page.evaluate("scrollTo(0, 0)")
    camera.shoot(page, "samples")


def take_runs(camera: Camera, page: Page) -> None:
    """Both runs compared."""
    open_tab(page, "Runs")
    for box in page.locator(".r-table tbody input").all():
        box.check()
    page.locator(".r-compare").click()
    page.wait_for_selector(".p-control:not([hidden])")
    page.wait_for_timeout(1500)
    page.evaluate("scrollTo(0, 0)")
    camera.shoot(page, "runs")


def take_playground(camera: Camera, page: Page) -> None:
    """One prompt for both models."""
    open_tab(page, "Playground")
    page.locator(".t-prompt").fill("Tom has 6 figs, gets 5 more and loses 5. How many figs?")
    page.locator(".t-expected summary").click()
    page.locator(".t-answer").fill("6")
    page.locator(".t-send").click()
    for side in ("base", "tuned"):
        page.wait_for_selector(f'.t-card[data-side="{side}"] .t-verdict:not(:empty)')
    page.evaluate("scrollTo(0, 0)")
    page.locator('.t-card[data-side="tuned"] .t-token').first.hover()
    camera.shoot(page, "playground")


def main() -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--target", type=Path, default=TARGET)
    options = parser.parse_args()
    options.target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "geko_app", "--port", str(PORT), "--runs", "runs"]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            print(server.stdout.readline().strip())  # the address, printed once the page answers
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=options.chromium, args=ARGUMENTS)
                take_all(Camera(browser, options.target))
                browser.close()
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
