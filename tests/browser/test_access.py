"""Every page through axe, light and dark: nothing that axe calls serious or critical. Knows no training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DEMO, DataConfig
from geko_engine.demo import demo_path
from tests.app.sample_runs import text_of, write_record, write_texts
from tests.app.views.test_runs import ended
from tests.browser.conftest import WAIT, Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One page for all tests here, over one run that is complete: charts, samples, and a model to ask."""
    made = Server(tmp_path_factory.mktemp("access"))
    finished_run(made.folder / "runs")
    made.start()
    yield made
    made.end()


def finished_run(root: Path) -> None:
    config = RunConfig(data=DataConfig(eval=DEMO, sample_count=120, eval_count=16), output_dir=str(root))
    folder = ended(RunStore(root), config)
    write_texts(folder, [text_of(i) for i in range(120)], contradicts=[0, 5, *[0] * 118])
    write_record(folder, 120, 3, change=0.7)
    shutil.copytree(demo_path("model"), folder.model_path)


def violations(page: Page, theme: str) -> list[str]:
    """What axe calls serious or critical, one line for each place; colors are looked at when they have settled."""
    # Inside a closed <details> a transition never runs, and nobody sees it.
    page.wait_for_function(
        "document.getAnimations().every((one) => !(one instanceof CSSTransition) || !one.effect.target.checkVisibility())"
    )
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{theme}: {rule['id']} at {node['target']}: {node['html'][:160]} {node['failureSummary']}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def show_train(page: Page) -> None:
    expect(page.locator(".geko-status")).to_have_attribute("data-phase", "complete")
    expect(page.locator(".geko-summary")).to_be_visible()
    page.locator("#geko-preview-button").click()
    expect(page.locator(".l-sample")).to_be_visible(timeout=WAIT)
    expect(page.locator(".l-memory")).to_be_visible(timeout=WAIT)
    folded = page.locator("#geko-form .label-wrap:not(.open)").locator("visible=true")
    while folded.count():
        folded.first.click()
    page.locator(".geko-log summary").click()


def show_samples(page: Page) -> None:
    page.get_by_role("tab", name="Samples").click()
    page.locator(".m-chip.suspicious").click()
    page.locator(".m-open").first.click()
    expect(page.locator(".m-one")).to_be_visible()
    page.get_by_role("button", name="Data map").click()
    page.locator(".c-map[data-wired]").wait_for()


def show_review(page: Page) -> None:
    page.get_by_role("tab", name="Samples").click()
    page.get_by_role("button", name="Review", exact=True).click()
    expect(page.locator(".v-title")).to_contain_text("Row")
    page.keyboard.press("?")
    expect(page.locator(".v-keys")).to_be_visible()
    page.get_by_role("button", name="Delete all").click()
    expect(page.locator(".v-would")).to_contain_text("would be deleted")


def show_editor(page: Page) -> None:
    show_review(page)
    page.locator(".v-title").focus()
    page.keyboard.press("e")
    expect(page.locator(".v-new-answer")).to_be_focused()


def show_changes(page: Page) -> None:
    show_review(page)
    page.locator(".v-title").focus()
    page.keyboard.press("d")
    expect(page.locator(".v-said")).to_contain_text("deleted")
    page.get_by_role("button", name="Changes").click()
    expect(page.locator(".c-change").first).to_be_visible()


def show_runs(page: Page) -> None:
    page.get_by_role("tab", name="Runs").click()
    page.locator(".r-tick input").first.check()
    page.locator(".r-open").first.click()
    expect(page.locator(".o-name")).to_be_visible()
    page.locator(".o-config summary").click()
    page.locator(".o-log summary").click()


def show_comparison(page: Page) -> None:
    page.get_by_role("tab", name="Runs").click()
    page.locator(".r-tick input").first.check()
    page.get_by_role("button", name="Compare (1)").click()
    expect(page.locator(".p-figures")).to_be_visible()
    page.locator(".p-chart .main-svg").first.wait_for()


def show_playground(page: Page) -> None:
    page.get_by_role("tab", name="Playground").click()
    page.locator(".t-chip").first.click()
    for side in ("base", "tuned"):
        expect(page.locator(f'.t-card[data-side="{side}"] .t-verdict')).not_to_be_empty(timeout=WAIT)
    page.locator(".t-unsure summary").click()
    page.locator(".t-look").click()
    expect(page.locator(".t-tokens span[class^=t-level]").first).to_be_visible(timeout=WAIT)
    page.locator(".t-read summary").click()
    page.locator(".t-serve summary").click()
    page.locator(".t-token").first.focus()


SHOWN = [
    show_train,
    show_samples,
    show_review,
    show_editor,
    show_changes,
    show_runs,
    show_comparison,
    show_playground,
]


@pytest.mark.parametrize("show", SHOWN)
def test_axe_finds_nothing_serious(page: Page, show: Callable[[Page], None]) -> None:
    show(page)
    found = violations(page, "light")
    page.locator("#geko-theme").evaluate("button => button.click()")  # the panel of a run may lie over it
    expect(page.locator("body")).to_contain_class("dark")
    found += violations(page, "dark")
    assert not found, "\n".join(found)
