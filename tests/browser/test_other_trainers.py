"""Run folders of transformers.Trainer and TRL's SFTTrainer with GekoMixin, as the page draws them in a real Chromium."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from geko_engine.runs.folder import RunFolder
from tests.browser.conftest import Server
from tests.browser.test_runs_page import line, open_runs
from tests.browser.test_samples_page import show_samples
from tests.browser.test_train_page import POINTS, wait_for_phase

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SCRIPT = """
import json, sys
import torch, transformers, trl
from datasets import Dataset
from geko_engine import GekoMixin
from geko_engine.demo import demo_path

torch.set_num_threads(1)
class Trainer(GekoMixin, transformers.Trainer): pass
class SFTTrainer(GekoMixin, trl.SFTTrainer): pass

model, runs = str(demo_path("model")), sys.argv[1]
tokenizer = transformers.AutoTokenizer.from_pretrained(model)
rows = [json.loads(line) for line in demo_path("train.jsonl").open(encoding="utf-8")][:60]
texts = [tokenizer(row["prompt"] + row["completion"] + tokenizer.eos_token)["input_ids"] for row in rows]
collate = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)
args = {"num_train_epochs": 2, "per_device_train_batch_size": 10, "eval_strategy": "epoch", "save_strategy": "no"}
args |= {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "output_dir": "out"}

def train(kind, args, data, held_out, **given):
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model)
    data = {"train_dataset": data, "eval_dataset": held_out, "processing_class": tokenizer}
    kind(loaded, args, runs_dir=runs, **data, **given).train()

ids = [{"input_ids": text} for text in texts]
train(Trainer, transformers.TrainingArguments(**args), ids, ids[:12], data_collator=collate)
whole = Dataset.from_list(rows)
train(SFTTrainer, trl.SFTConfig(bf16=False, **args), whole, whole.select(range(12)))
"""


def test_their_runs_are_shown_like_any_other(page: Page, server: Server) -> None:
    pytest.importorskip("trl")
    environment = {**os.environ, "CI": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", SCRIPT, str(server.folder / "runs")]
    subprocess.run(command, check=True, env=environment, cwd=server.folder, stdout=subprocess.DEVNULL)
    folders = sorted((RunFolder.open(path) for path in server.runs()), key=lambda folder: folder.status().heartbeat)
    page.reload()
    open_runs(page, 2)
    for folder in folders:
        expect(line(page, folder)).to_contain_text("given in Python")
        line(page, folder).locator(".r-open").click()
        page.locator(".o-run").get_by_role("button", name="Show on the Train page").click()
        wait_for_phase(page, "complete")
        page.wait_for_function(f"{POINTS} == 12")
        page.get_by_role("tab", name="Runs").click()
    show_samples(page)
    for folder in folders:
        page.locator("#geko-samples .geko-runs").select_option(folder.id)
        expect(page.locator("#geko-samples tbody tr:not(.why)")).to_have_count(50)
        page.locator(".m-open").first.click()
        expect(page.locator(".m-path circle")).to_have_count(4)
        assert page.locator(".m-text").inner_text().strip()
