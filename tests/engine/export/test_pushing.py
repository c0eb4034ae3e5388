"""Models pushed with the real client, in a process of its own, to a Hub on this machine, and loaded from there."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml

from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import ExportError
from geko_engine.export import push
from geko_engine.export.model_card import model_card
from geko_engine.runs.folder import RunFolder
from tests.engine.export.conftest import ASKED, settings, write_base, write_rows
from tests.engine.hub.test_client import child_environment, folder_files
from tests.hub_server import HubServer, Repo

WRITER, OTHER = "hf_writer0123456789", "hf_other0123456789"
# Trains on a base model of the Hub, pushes, and asks what it pushed with plain transformers.
SCRIPT = """
import json, os, sys
from geko_engine.exceptions import ExportError
from geko_engine.export import push
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder

given = json.loads(sys.stdin.read())
folder = RunFolder(given["run"])
report = run(folder)
assert report["end"] == "complete", report["reason"]
found = {"pushed": [], "refused": {}}
for options in given["pushes"]:
    os.environ["HF_TOKEN"] = options.pop("environment", "")
    try:
        found["pushed"].append(push(folder, **options).place)
    except ExportError as error:
        found["refused"][options["repo"]] = str(error)

from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer
os.environ["HF_TOKEN"] = given["token"]
def answer(kind, name):
    model, tokenizer = kind.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name)
    turns = [{"role": "user", "content": given["question"]}]
    inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, max_new_tokens=40, do_sample=False)[0, inputs["input_ids"].shape[1]:]
    return tokenizer.decode(output), len(output)
found["answers"] = [
    answer(AutoPeftModelForCausalLM, folder.model_path),
    answer(AutoPeftModelForCausalLM, "ada/adapter"),
    answer(AutoModelForCausalLM, "ada/merged"),
]
from geko_engine.config.sections import ModelConfig
from geko_engine.models.loading import load_model_and_tokenizer
adapted, _ = load_model_and_tokenizer(ModelConfig("ada/adapter"), train_adapter=True, note=lambda text: found.update(note=text))
found["trainable"] = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
print(json.dumps(found))
"""
PUSHES: list[dict[str, Any]] = [
    {"repo": "ada/adapter", "environment": WRITER},
    {"repo": "ada/merged", "merged": True, "token": WRITER, "private": False},
    {"repo": "ada/none"},
    {"repo": "ada/unknown", "token": "hf_unknown0123456789"},
    {"repo": "bob/theirs", "token": WRITER, "private": False},
    {"repo": "ada/public", "token": WRITER},
]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> tuple[HubServer, dict[str, Any], RunFolder]:
    """The Hub afterwards, what the process found, and its run."""
    folder = tmp_path_factory.mktemp("pushed")
    rows = write_rows(folder / "answers.jsonl")
    with HubServer() as hub:
        hub.tokens = {WRITER, OTHER}
        hub.models["tiny/base"] = Repo({"main": folder_files(write_base(folder / "base"))})
        hub.models["bob/theirs"] = Repo({"main": {}}, readers=frozenset({OTHER}))
        hub.models["ada/public"] = Repo({"main": {}}, readers=frozenset({WRITER}))
        run = RunFolder.create(settings(folder, "tiny/base", rows, model={"revision": "main"}))
        given = {"run": str(run.path), "pushes": PUSHES, "token": WRITER, "question": next(iter(ASKED))}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            input=json.dumps(given),
            env=child_environment(hub, folder / "home", HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_PROGRESS_BARS="1"),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return hub, json.loads(done.stdout.splitlines()[-1]), run


def test_what_was_pushed_answers_as_the_run_does(pushed: tuple[HubServer, dict[str, Any], RunFolder]) -> None:
    hub, found, _ = pushed
    assert found["pushed"] == [f"{hub.url}/ada/adapter", f"{hub.url}/ada/merged"]
    tuned, adapter, merged = found["answers"]
    assert tuned == adapter == merged
    assert (
        found["trainable"] and "goes on with the adapter in" in found["note"] and "tiny/base: rank 4" in found["note"]
    )


def test_private_is_the_default_and_the_token_is_nowhere(
    pushed: tuple[HubServer, dict[str, Any], RunFolder],
) -> None:
    hub, _, run = pushed
    assert hub.models["ada/adapter"].private and not hub.models["ada/merged"].private
    assert len(hub.asked("/commit/main", "POST")) == 2, "one commit each"
    assert hub.objects, "weights are uploaded by LFS"
    assert not [path for path in run.path.rglob("*") if path.is_file() and WRITER.encode() in path.read_bytes()]


def test_the_card_says_what_it_is_and_no_path(pushed: tuple[HubServer, dict[str, Any], RunFolder]) -> None:
    hub, _, run = pushed
    files = hub.models["ada/adapter"].revisions["main"]
    card = files["README.md"].decode()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["base_model"] == "tiny/base" and metadata["library_name"] == "peft" and "license" not in metadata
    report = run.report()
    assert report is not None
    assert "`answers.jsonl`, 4 samples" in card and f"| Optimizer steps | {report['steps']} |" in card
    assert 'AutoPeftModelForCausalLM.from_pretrained("ada/adapter")' in card
    assert str(run.path.parent.parent) not in card
    assert json.loads(files["adapter_config.json"])["revision"] == "main", "whoever loads it gets the same base model"
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= set(files)


REFUSED = {
    "ada/none": "Pushing needs a Hub token with write access: log in",
    "ada/unknown": "The Hub does not know this token",
    "bob/theirs": "This token may not write to 'bob/theirs'",
    "ada/public": "The repository 'ada/public' exists already and is public",
}


def test_what_the_hub_refuses_is_a_sentence(pushed: tuple[HubServer, dict[str, Any], RunFolder]) -> None:
    refused = pushed[1]["refused"]
    assert set(refused) == set(REFUSED)
    assert [name for name, text in REFUSED.items() if not refused[name].startswith(text)] == []


def test_an_adapter_that_nobody_else_could_load_is_not_pushed(finished: RunFolder) -> None:
    with pytest.raises(
        ExportError, match="The base model 'base' is a folder on this machine, so nobody else could load"
    ):
        push(finished, "ada/adapter", token=WRITER)
    with pytest.raises(ExportError, match=r"'a/b/c' is not the id of a repository: give owner/name"):
        push(finished, "a/b/c", token=WRITER)


def test_the_card_shows_the_evaluation_and_quotes_a_prompt_as_trained() -> None:
    report = {"samples": 1200, "steps": 75, "eval_loss_before": 2.5, "eval_loss_after": 0.5, "exact_match_before": 0.1,
              "exact_match_after": 0.9, "compute_saved_ratio": 0.25, "tokens_backwarded": 12345}  # fmt: skip
    card = model_card("ada/x", RunConfig(), report, adapter=False, prompt="Hello!\n")
    assert "| Evaluation loss, before → after | 2.5000 → 0.5000 |" in card
    assert "| Exact match, before → after | 10.0% → 90.0% |" in card
    assert "| Compute saved against plain training | 25.0% |" in card and "| Trained tokens | 12,345 |" in card
    assert 'tokenizer("Hello!\\n", return_tensors="pt")' in card
    assert "base_model" not in card and "GEKO's demo model" in card
