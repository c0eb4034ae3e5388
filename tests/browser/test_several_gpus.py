"""A page on a computer with several GPUs, as nvidia-smi says: the boxes of the form, two runs at once, and one that waits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server
from tests.browser.test_train_page import MANY_STEPS, fill, start, unfold, wait_for_phase

pytestmark = [pytest.mark.browser, pytest.mark.slow]
NVIDIA_SMI = "#!/bin/sh\nprintf 'GPU-a, 81559, H100\\nGPU-b, 24564, RTX 4090\\n'\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(NVIDIA_SMI, encoding="utf-8")
    tool.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    path = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"
    made = Server(tmp_path, environment={**environment, "PATH": path, "HF_HUB_OFFLINE": "1"})
    made.start()
    yield made
    made.end()


def test_boxes_choose_gpus_two_runs_go_at_once_and_the_third_says_what_it_waits_for(page: Page, server: Server) -> None:
    unfold(page, "Efficiency")
    boxes, field = page.locator(".geko-gpus"), page.locator("#field-training-gpu_ids input").first
    expect(boxes.locator("label")).to_have_count(2)
    expect(boxes.locator("label").nth(1)).to_contain_text("GPU 1RTX 4090, 24 GB")
    expect(boxes.locator("label").nth(1)).to_contain_text("free")
    field.fill("0, 1")
    expect(boxes.locator("input:checked")).to_have_count(2)
    boxes.get_by_label("GPU 0").uncheck()
    expect(field).to_have_value("1")
    boxes.get_by_label("GPU 1").uncheck()
    expect(field).to_have_value("")

    fill(page, MANY_STEPS)
    start(page)
    wait_for_phase(page, "training")
    first = page.locator("#geko-live .geko-runs").input_value()
    expect(boxes.locator("label").nth(0)).to_contain_text("running: ")
    expect(page.locator(".geko-settings").first).to_contain_text("GPU 0")
    start(page)
    expect(page.locator("#geko-live .geko-runs optgroup").first).to_have_attribute("label", "2 runs at work")
    wait_for_phase(page, "training")
    expect(page.locator(".geko-settings").first).to_contain_text("GPU 1")
    start(page)
    expect(page.locator("#geko-message")).to_contain_text("Queued #1, waits for a free GPU.")

    second = page.locator("#geko-live .geko-runs").input_value()
    assert second != first
    page.locator("#geko-live .geko-runs").select_option(first)
    expect(page.locator(".geko-settings").first).to_contain_text("GPU 0")
    page.locator(".b-stop").click()
    expect(page.locator(".geko-settings").first).to_contain_text("GPU 0")  # the third one begins there, and is shown
    expect(page.locator("#geko-live .geko-runs")).not_to_have_value(first)
