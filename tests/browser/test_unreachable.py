"""What the page says in a real Chromium while the server refuses a call: Gradio's client answers `undefined` then."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Route, expect

from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig
from geko_engine.runs.folder import RunFolder
from tests.app.views.test_runs import ended
from tests.browser.conftest import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SENTENCE = "The page does not answer. Is geko-app still running?"


def run_with_model(server: Server) -> RunFolder:
    config = RunConfig.demo()
    config.output_dir = str(server.folder / "runs")
    folder = ended(RunStore(config.output_dir), config)
    folder.model_path.mkdir()
    (folder.model_path / "config.json").write_text("{}", encoding="utf-8")
    return folder


def refuse(page: Page, function: str) -> None:
    """Answer calls of one server function as a Space does to a visitor."""

    def answer(route: Route) -> None:
        asked = route.request.post_data_json or {}
        if asked["fn_name"] == function:
            route.fulfill(status=403, json={"detail": "refused"})
        else:
            route.continue_()

    page.route("**/gradio_api/component_server/", answer)


def test_a_prompt_that_cannot_be_sent_says_so(page: Page, server: Server) -> None:
    run_with_model(server)
    refuse(page, "ask")
    page.get_by_role("tab", name="Playground").click()
    page.locator(".t-prompt").fill("2 + 2")
    page.locator(".t-prompt").press("Enter")
    expect(page.locator("#geko-playground").get_by_text(SENTENCE).first).to_be_visible()


def test_the_dashboard_is_drawn_without_a_run_to_compare_with(page: Page, server: Server) -> None:
    refuse(page, "partner")
    folder = run_with_model(server)
    expect(page.locator("#geko-live .geko-runs")).to_have_value(folder.id)
    expect(page.locator("#geko-live").get_by_role("button", name="Try it")).to_be_visible()


def test_an_opened_run_says_that_nothing_was_done(page: Page, server: Server) -> None:
    folder = run_with_model(server)
    refuse(page, "pack")
    page.get_by_role("tab", name="Runs").click()
    page.locator(".r-table tbody tr", has_text=folder.id.rsplit("-", 1)[-1]).locator(".r-open").click()
    page.locator(".o-pack").click()
    expect(page.locator(".o-error")).to_have_text(SENTENCE)
