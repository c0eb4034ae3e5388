"""From a spreadsheet to a model on the Hub: the whole way of somebody who has a file and no code, in a real Chromium."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import WAIT, Server
from tests.browser.test_playground_page import ask, open_page, plain_text
from tests.browser.test_train_page import fill, start, unfold, wait_for_phase
from tests.engine.export.conftest import write_base
from tests.engine.export.test_gguf import llama_cpp
from tests.engine.hub.test_client import child_environment, folder_files
from tests.hub_server import HubServer, Repo

pytestmark = [pytest.mark.browser, pytest.mark.slow]
WRITER = "hf_writer0123456789"
COPIES = 12  # of each question: a model that talks nonsense has much to learn
FAQ = {
    "Wo ist mein P\u00e4ckchen?": "Es ist unterwegs.",
    "Was kostet der Versand?": "Vier \u20ac.",
    "Kann ich zur\u00fcckgeben?": "Ja, drei\u00dfig Tage.",
    "Wann \u00f6ffnet ihr?": "Um neun Uhr.",
}
ASK = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
name, question = sys.argv[1:]
model, tokenizer = AutoModelForCausalLM.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name)
turns = [{"role": "user", "content": question}]
inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(**inputs, max_new_tokens=40, do_sample=False)[0, inputs["input_ids"].shape[1]:]
sys.stdout.buffer.write(tokenizer.decode(output, skip_special_tokens=True).encode("utf-8"))
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """A Hub with a base model that talks nonsense and has a chat template."""
    with HubServer() as made:
        made.tokens = {WRITER}
        base = write_base(tmp_path / "base", tie_word_embeddings=False)
        made.models["tiny/base"] = Repo({"main": folder_files(base)})
        yield made


@pytest.fixture
def page(browser: Browser, hub: HubServer, tmp_path: Path) -> Iterator[Page]:
    converter = llama_cpp(tmp_path / "llama.cpp")
    environment = child_environment(hub, tmp_path / "home", HF_HUB_DISABLE_XET="1", LLAMA_CPP_DIR=str(converter))
    server = Server(tmp_path, environment=environment)
    server.start()
    tab = browser.new_page(viewport={"width": 1440, "height": 1000})
    tab.set_default_timeout(WAIT)
    tab.goto(server.url)
    tab.wait_for_function("window.Plotly !== undefined && document.body.dataset.form === 'ready'")
    yield tab
    tab.close()
    server.end()
    assert WRITER not in (tmp_path / "server.log").read_text("utf-8")


def spreadsheet(path: Path) -> Path:
    """As Excel saves it in Germany: Windows-1252, semicolons, columns that no format knows by name."""
    rows = [*(f"{question};{answer}" for question, answer in FAQ.items())] * COPIES
    path.write_bytes("\r\n".join(["customer_question;agent_reply", *rows]).encode("cp1252"))
    return path


def test_from_a_spreadsheet_to_a_model_on_the_hub(page: Page, hub: HubServer, tmp_path: Path) -> None:
    expect.set_options(timeout=WAIT)
    upload = page.locator("#upload-data-train").locator("xpath=..").locator("input[type=file]").first
    upload.set_input_files(str(spreadsheet(tmp_path / "FAQ M\u00e4rz.csv")))
    expect(page.get_by_label("Role of the column customer_question", exact=True)).to_have_value("prompt")
    expect(page.get_by_label("Role of the column agent_reply", exact=True)).to_have_value("completion")

    fill(page, {"model.name": "tiny/base", "data.eval": ""})
    page.locator("#field-lora-enabled input").check()
    fill(page, {"training.num_epochs": "20", "training.learning_rate": "0.01", "training.batch_size": "4"})
    unfold(page, "LoRA")
    fill(page, {"lora.target_modules": "all-linear"})
    page.locator("#geko-preview-button").click()
    expect(page.locator(".l-text .learned").first).to_contain_text("Es ist unterwegs.")

    start(page)
    wait_for_phase(page, "complete")
    page.get_by_role("button", name="Try it").click()
    open_page(page)
    question, reply = next(iter(FAQ.items()))
    ask(page, question)
    assert plain_text(page, "tuned") == reply != plain_text(page, "base")

    page.get_by_role("tab", name="Train").click()
    card = page.locator(".geko-export")
    card.get_by_role("button", name="Merge into one model").click()
    expect(card).to_contain_text("are the same")
    card.get_by_role("button", name="GGUF file").click()
    made = card.locator(".geko-path code").filter(has_text="model.gguf").first
    expect(made).to_be_visible()
    assert Path(made.inner_text()).read_bytes() == b"GGUFq8_0"  # by a script in the place of llama.cpp's converter
    card.get_by_role("button", name="Push to the Hub").click()
    card.locator(".e-repo").fill("ada/faq")
    card.locator(".e-token").fill(WRITER)
    card.get_by_label("Complete model instead of the adapter").check()
    card.get_by_role("button", name="Push", exact=True).click()
    expect(card.locator(".geko-path code").last).to_have_text(f"{hub.url}/ada/faq")
    assert hub.models["ada/faq"].private

    answer = subprocess.run(
        [sys.executable, "-c", ASK, "ada/faq", question],
        env=child_environment(hub, tmp_path / "other-home", HF_TOKEN=WRITER),
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr.decode()
    assert answer.stdout.decode("utf-8").strip() == reply
