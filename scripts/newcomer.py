"""The walk of a newcomer, timed: from `git clone` to a model tuned on a CSV file of one's own, in a real Chromium.

python -m scripts.newcomer MODEL [--log FILE]

Each step is a line of a Markdown table with its seconds and clicks. The walk fails where the tuned model does not answer a question
that was not in the file. Reading and thinking take no time here; downloads take what they take.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
URL = "http://127.0.0.1:7860"  # of a plain `make app`
LIMIT = 900  # seconds that a step may take
QUESTIONS = {
    "delivery": (
        "where is the {} that I ordered?",
        "when does my {} come?",
        "the {} is late",
        "my {} has not come yet",
    ),
    "returns": ("i want to give the {} back", "the {} is broken", "can i return the {}?", "please take the {} back"),
    "price": (
        "how much is the {}?",
        "is the {} cheaper now?",
        "what does the {} cost?",
        "is there a discount on the {}?",
    ),
}
COLOURS = ("blue", "red")
THINGS = ("lamp", "chair", "table", "shelf", "desk", "mirror")


def write_csv(path: Path) -> tuple[str, str]:
    """An ordinary file: questions of customers and what they are about, 143 rows; returns the one that is not in it."""
    rows = [
        (question.format(f"{colour} {thing}"), topic)
        for topic, questions in QUESTIONS.items()
        for question in questions
        for colour in COLOURS
        for thing in THINGS
    ]
    (asked, topic) = rows.pop(40)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("question", "answer"), *rows])
    return asked, topic


class Walk:
    """The steps and what they took.

    Args:
        home: an empty folder.
        model: for the field Model.
    """

    def __init__(self, home: Path, model: str) -> None:
        self._home, self._model = home, model
        self._clicks = 0
        self.rows: list[tuple[str, str, float, int]] = []

    def step(self, title: str, action: Callable[[], str]) -> None:
        """Do it, and note seconds and clicks; `action` returns what was seen."""
        began, clicks = time.monotonic(), self._clicks
        seen = action()
        self.rows.append((title, seen, time.monotonic() - began, self._clicks - clicks))
        print(f"newcomer: {title}: {seen} ({self.rows[-1][2]:.0f} s, {self.rows[-1][3]} clicks)", flush=True)

    def click(self, at: Locator) -> None:
        """One click, counted."""
        at.click()
        self._clicks += 1

    # ------------------------------------------------------------ steps
    def clone(self) -> str:
        """The repository as it is committed."""
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self._home / "geko")], check=True)
        return "git clone"

    def install(self) -> str:
        """`make app` up to the page."""
        if is_served():
            raise RuntimeError(f"A page is served at {URL} already: end it first.")
        self.app = subprocess.Popen(
            ["make", "app"],
            cwd=self._home / "geko",
            env=clean_environment(),
            stdout=(self._home / "app.log").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            if self.app.poll() is not None:
                raise RuntimeError((self._home / "app.log").read_text("utf-8"))
            if is_served():
                return "make app; the page answers"
            time.sleep(0.2)
        raise RuntimeError("The page did not answer.")

    def open(self, page: Page) -> str:
        """The page in the browser."""
        page.goto(URL)
        page.wait_for_function("document.body.dataset.form === 'ready'")
        return str(page.title())

    def name_data(self, page: Page, path: Path) -> str:
        """Upload the file: the button, and the file in the browser's dialog."""
        with page.expect_file_chooser() as chooser:
            self.click(page.locator("#upload-data-train"))
        chooser.value.set_files(path)
        self._clicks += 1
        expect(page.get_by_label("Role of the column answer", exact=True)).to_have_value("completion")
        return "columns question and answer found"

    def name_model(self, page: Page) -> str:
        """Another base model, with LoRA."""
        field = page.locator("#field-model-name input")
        self.click(field)
        field.fill(self._model)
        field.press("Enter")
        self.click(page.locator("#field-lora-enabled input"))
        size = page.locator("#field-training-batch_size input").first
        self.click(size)
        size.fill("4")
        return f"{Path(self._model).name} with LoRA, batch size 4"

    def train(self, page: Page) -> str:
        """Start, and the end of the run."""
        self.click(page.locator("#geko-start"))
        expect(page.locator(".geko-status")).to_have_attribute("data-phase", "complete", timeout=1000 * LIMIT)
        return str(page.locator(".geko-status").inner_text()).split("\n")[0]

    def ask(self, page: Page, question: str, answer: str) -> str:
        """Try the model."""
        self.click(page.get_by_role("button", name="Try it"))
        page.locator(".t-prompt").fill(question)
        self.click(page.locator(".t-send"))
        status = page.locator(".t-turn").last.locator('[data-side="tuned"] .t-status')
        expect(status).to_contain_text("token")
        tokens = page.locator(".t-turn").last.locator('[data-side="tuned"] .t-token:not(.t-special)')
        said = "".join(tokens.all_inner_texts()).strip()
        if said != answer:
            raise RuntimeError(f"The tuned model answers {said!r}, not {answer!r}.")
        return f"“{question}” “{said}”"

    def close(self) -> None:
        """End the page."""
        if hasattr(self, "app") and self.app.poll() is None:
            os.killpg(self.app.pid, signal.SIGTERM)
            try:
                self.app.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.app.pid, signal.SIGKILL)

    def markdown(self, command: str) -> str:
        """The table."""
        total, clicks = sum(row[2] for row in self.rows), sum(row[3] for row in self.rows)
        lines = [f"| {title} | {seen} | {seconds:.0f} s | {number} |" for title, seen, seconds, number in self.rows]
        machine = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
        return "\n".join(
            [
                f"`{command}`, {time.strftime('%Y-%m-%d')}, {machine}: **{total:.0f} seconds and {clicks} clicks** from the",
                "repository to an answer of a model tuned on a CSV file of 143 rows. Nobody reads or thinks here.",
                "",
                "| Step | Seen | Time | Clicks |",
                "|---|---|---|---|",
                *lines,
                "",
            ]
        )


def is_served() -> bool:
    """Whether a page answers at URL."""
    try:
        urllib.request.urlopen(URL, timeout=5).close()
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False
    return True


def clean_environment() -> dict[str, str]:
    """This process's environment without its Python."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS")}


def walk_through(walk: Walk, home: Path) -> None:
    """All steps, one after another."""
    question, answer = write_csv(home / "shelves.csv")
    walk.step("clone", walk.clone)
    walk.step("install and start", walk.install)
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(120_000)
        expect.set_options(timeout=120_000)
        walk.step("open the page", lambda: walk.open(page))
        walk.step("the file", lambda: walk.name_data(page, home / "shelves.csv"))
        walk.step("the model", lambda: walk.name_model(page))
        walk.step("train", lambda: walk.train(page))
        walk.step("ask it", lambda: walk.ask(page, question, answer))
        browser.close()


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "model", help="base model for the field Model, trained with LoRA: a folder, or a name on the Hub"
    )
    parser.add_argument("--log", type=Path, help="file for the table, in Markdown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="geko-newcomer-", ignore_cleanup_errors=True) as name:
        walk = Walk(Path(name), options.model)
        try:
            walk_through(walk, Path(name))
        except Exception as error:  # noqa: BLE001 - whatever stops a newcomer fails the walk
            print(f"newcomer: {error}", file=sys.stderr)
            return 1
        finally:
            walk.close()
        table = walk.markdown(f"python -m scripts.newcomer {Path(options.model).name}")
    print(table)
    if options.log:
        options.log.write_text(table, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
