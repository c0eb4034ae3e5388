"""The process that asks a run's models, with real runs of the demo model: it says what the models say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from geko_app.runs.store import RunStore
from geko_app.workers.inference_jobs import (
    FINAL,
    INFERENCE_COMMAND,
    InferenceJob,
    InferenceJobs,
    InferenceRequest,
    models_of,
)
from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DEMO, DataConfig, LoraSettings
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.demo import demo_path
from geko_engine.inference.examples import EACH
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from tests.app.long_answers import run_that_does_not_end
from tests.app.workers.test_supervisor import wait_for
from tests.engine.export.conftest import ASKED, trained, write_base, write_rows

pytestmark = pytest.mark.slow
PROMPT = "Which is the last of the letters k d l?"
ROWS = [json.loads(line) for line in (demo_path("eval.jsonl")).read_text("utf-8").splitlines()[:8]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return RunStore(tmp_path_factory.mktemp("talk") / "runs")


def train(store: RunStore, **lora: Any) -> str:
    torch.set_num_threads(1)
    config = RunConfig(
        data=DataConfig(eval=DEMO, sample_count=160, eval_count=16, max_length=128),
        lora=LoraSettings(**lora),
        training=GEKOTrainingArgs(num_epochs=3, batch_size=8, learning_rate=5e-3, warmup_steps=0, save_steps=20),
        output_dir=str(store.root),
    )
    folder = store.create(config)
    assert run(folder)["end"] == "complete"
    return folder.id


@pytest.fixture(scope="module")
def full(store: RunStore) -> str:
    return train(store)


@pytest.fixture(scope="module")
def adapted(store: RunStore) -> str:
    pytest.importorskip("peft")
    return train(store, enabled=True, r=8)


@pytest.fixture(scope="module")
def jobs(store: RunStore) -> Iterator[InferenceJobs]:
    made = InferenceJobs(store)
    yield made
    made.shutdown()


def done(jobs: InferenceJobs, key: str) -> InferenceJob:
    wait_for(lambda: (job := jobs.job(key)) is not None and job.done, "the end of a job")
    job = jobs.job(key)
    assert job is not None and job.error == "", job
    return job


def ask(jobs: InferenceJobs, run_id: str, prompt: str, which: str = FINAL, **options: Any) -> dict[str, dict[str, Any]]:
    return done(jobs, jobs.generate(InferenceRequest(run_id, which, prompt), options)).parts


def greedy(model: Any, prompt: str) -> str:
    """What transformers says by itself."""
    tokenizer = AutoTokenizer.from_pretrained(demo_path("model"))
    ids = tokenizer(prompt + "\n", return_tensors="pt")["input_ids"]
    written = model.generate(ids, do_sample=False, max_new_tokens=128, eos_token_id=tokenizer.eos_token_id)
    return str(tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True))


def test_both_models_say_what_they_say_by_themselves(jobs: InferenceJobs, store: RunStore, full: str) -> None:
    base = AutoModelForCausalLM.from_pretrained(demo_path("model"))
    tuned = AutoModelForCausalLM.from_pretrained(store.folder(full).model_path)
    answers = [(ask(jobs, full, row["prompt"]), row["prompt"]) for row in ROWS]
    for parts, prompt in answers:
        assert parts["base"]["text"] == greedy(base, prompt)
        assert parts["tuned"]["text"] == greedy(tuned, prompt)
        assert parts["base"]["end"] == "end of text" and parts["prompt"]["text"] == prompt + "\n"
    assert any(parts["base"]["text"] != parts["tuned"]["text"] for parts, _ in answers)


def test_an_adapter_answers_on_its_base_and_leaves_the_base_as_it_was(
    jobs: InferenceJobs, store: RunStore, adapted: str
) -> None:
    from peft import AutoPeftModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(demo_path("model"))
    tuned = AutoPeftModelForCausalLM.from_pretrained(store.folder(adapted).model_path)
    answers = [(ask(jobs, adapted, row["prompt"]), row["prompt"]) for row in ROWS]
    for parts, prompt in answers:
        assert parts["tuned"]["text"] == greedy(tuned, prompt)
        assert parts["base"]["text"] == greedy(base, prompt)
    assert any(parts["base"]["text"] != parts["tuned"]["text"] for parts, _ in answers)


@pytest.mark.parametrize("kind", ["full", "adapted"])
def test_the_last_checkpoint_costs_what_the_final_model_costs_and_an_earlier_one_does_not(
    jobs: InferenceJobs, store: RunStore, kind: str, request: pytest.FixtureRequest
) -> None:
    run_id = request.getfixturevalue(kind)
    _, last, earlier = models_of(store.folder(run_id))[:3]
    costs = {}
    for which in (FINAL, last, earlier, FINAL):
        parts = done(jobs, jobs.token_losses(InferenceRequest(run_id, which, PROMPT, "k 7"))).parts
        costs[which] = [loss for _, loss in parts["tuned"]["list"] if loss is not None]
        costs["base " + which] = [loss for _, loss in parts["base"]["list"] if loss is not None]
    assert costs[FINAL] == pytest.approx(costs[last], abs=1e-5)
    assert costs[FINAL] != pytest.approx(costs[earlier], abs=1e-3)
    assert costs["base " + FINAL] == costs["base " + last] == costs["base " + earlier]


def test_the_losses_are_those_of_the_model_and_only_where_something_is_learnt(jobs: InferenceJobs, full: str) -> None:
    found = done(jobs, jobs.token_losses(InferenceRequest(full, FINAL, PROMPT, "l"), sides=["base"])).parts
    assert set(found) == {"base"}
    tokens = found["base"]["list"]
    assert "".join(text for text, _ in tokens) == PROMPT + "\nl<eos>"
    model, tokenizer = (c.from_pretrained(demo_path("model")) for c in (AutoModelForCausalLM, AutoTokenizer))
    ids = torch.tensor([tokenizer(PROMPT + "\n")["input_ids"] + tokenizer("l")["input_ids"] + [tokenizer.eos_token_id]])
    labels = ids.clone()
    labels[:, :-2] = -100
    with torch.no_grad():
        expected = float(model(input_ids=ids, labels=labels).loss)
    learnt = [loss for _, loss in tokens if loss is not None]
    assert len(learnt) == 2 and sum(learnt) / 2 == pytest.approx(expected, abs=1e-5)


def test_the_limit_ends_both_answers(jobs: InferenceJobs, full: str) -> None:
    parts = ask(jobs, full, PROMPT, max_new_tokens=1)
    assert [parts[side]["end"] for side in ("base", "tuned")] == ["limit", "limit"]


def test_a_stop_ends_both_answers_at_once_and_what_waits_behind_them(jobs: InferenceJobs, store: RunStore) -> None:
    run_id = run_that_does_not_end(store)
    key, behind = (jobs.generate(InferenceRequest(run_id, FINAL, "ab"), {"max_new_tokens": 1024}) for _ in range(2))
    wait_for(lambda: bool((job := jobs.job(key)) and job.parts.get("base", {}).get("tokens")), "the first words")
    jobs.cancel(behind)
    jobs.cancel(key)
    parts = done(jobs, key).parts
    assert parts["base"]["end"] == "stopped" and 0 < parts["base"]["tokens"] < 1024 and "tuned" not in parts
    assert done(jobs, behind).parts == {}


def test_a_conversation_goes_through_the_template_with_all_its_turns(jobs: InferenceJobs, store: RunStore) -> None:
    place = store.root.parent
    run_of_turns = trained(place, write_base(place / "base"), write_rows(place / "rows.jsonl"))
    turns = (("user", "Good morning!"), ("assistant", "Hello."))
    request = InferenceRequest(run_of_turns.id, FINAL, "two plus two", system="Be brief.", turns=turns)
    parts = done(jobs, jobs.generate(request, {"max_new_tokens": 4}, ["tuned"])).parts
    assert set(parts) == {"prompt", "tuned"} and parts["prompt"]["chat"] is True
    tokenizer = AutoTokenizer.from_pretrained(run_of_turns.model_path)
    spoken = [("system", "Be brief."), *turns, ("user", "two plus two")]
    messages = [{"role": role, "content": text} for role, text in spoken]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert parts["prompt"]["text"] == expected
    written = parts["tuned"]["written"]
    assert len(written) == parts["tuned"]["tokens"] and all(0 <= token["probability"] <= 1 for token in written)


def test_a_run_of_prompts_takes_each_turn_alone(jobs: InferenceJobs, full: str) -> None:
    request = InferenceRequest(full, FINAL, PROMPT, turns=(("user", "a"), ("assistant", "b")), system="Be brief.")
    parts = done(jobs, jobs.generate(request, {"max_new_tokens": 2}, ["base"])).parts
    assert parts["prompt"]["text"] == PROMPT + "\n" and parts["prompt"]["chat"] is False
    key = jobs.generate(InferenceRequest(full, FINAL, PROMPT, chat=True), {"max_new_tokens": 2})
    wait_for(lambda: (job := jobs.job(key)) is not None and job.done, "the end of a job")
    refused = jobs.job(key)
    assert refused is not None and "no chat template" in refused.error


def test_a_seed_draws_the_same_answer_again(jobs: InferenceJobs, full: str) -> None:
    drawn = [
        ask(jobs, full, "Repeat the letters d l f d e.", temperature=2.0, seed=seed)["base"]["text"]
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_examples_are_hard_samples_first_and_then_evaluation_rows(
    jobs: InferenceJobs, store: RunStore, full: str
) -> None:
    found = done(jobs, jobs.examples(full)).parts["examples"]["list"]
    groups = [example["group"] for example in found]
    assert groups == sorted(groups, key=["hard", "evaluation"].index) and set(groups) == {"hard", "evaluation"}
    held = [(e["prompt"], e["answer"]) for e in found if e["group"] == "evaluation"]
    assert held == [(row["prompt"], row["completion"]) for row in ROWS[:EACH]]
    record = store.folder(full).samples_path
    kept = record.read_bytes()
    record.unlink()
    try:
        found = done(jobs, jobs.examples(full)).parts["examples"]["list"]
    finally:
        record.write_bytes(kept)
    assert {example["group"] for example in found} == {"evaluation"}


def test_a_side_that_cannot_be_loaded_says_so_and_the_other_one_answers(
    jobs: InferenceJobs, store: RunStore, full: str
) -> None:
    folder = store.folder(full)
    weights = folder.checkpoints_path / models_of(folder)[1] / "weights.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-8])
    try:
        parts = ask(jobs, full, PROMPT, weights.parent.name)
    finally:
        weights.write_bytes(kept)
    assert parts["base"]["end"] == "end of text"
    assert parts["tuned"]["state"] == "failed" and "damaged" in parts["tuned"]["error"]


def test_a_killed_process_is_reported_and_the_next_question_is_answered(
    jobs: InferenceJobs, store: RunStore, full: str
) -> None:
    key = jobs.generate(InferenceRequest(run_that_does_not_end(store), FINAL, "ab"), {"max_new_tokens": 1024})
    wait_for(lambda: bool((job := jobs.job(key)) and job.parts.get("base", {}).get("tokens")), "the first words")
    assert jobs.pid is not None
    os.kill(jobs.pid, signal.SIGKILL)
    wait_for(lambda: (job := jobs.job(key)) is not None and job.done, "the end of the job")
    job = jobs.job(key)
    assert job is not None and "SIGKILL" in job.error and "Try again" in job.error
    assert ask(jobs, full, PROMPT)["tuned"]["end"] == "end of text"


PARENT = """
import subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_the_process_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *INFERENCE_COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the end of the child")


def test_a_training_beside_it_goes_on(jobs: InferenceJobs, store: RunStore, full: str, tmp_path: Path) -> None:
    config = RunConfig.demo()
    config.data.sample_count, config.data.eval, config.training.num_epochs = 160, None, 3
    config.output_dir = str(tmp_path)
    folder = RunFolder.create(config)
    worker = subprocess.Popen(
        [sys.executable, "-m", "geko_app.workers.training_worker", str(folder.path)], stderr=subprocess.DEVNULL
    )
    answered = 0
    while worker.poll() is None:
        answered += ask(jobs, full, PROMPT)["tuned"]["end"] == "end of text"
    assert worker.returncode == 0 and (folder.status() or None) and answered
    report = folder.report()
    assert report is not None and report["end"] == "complete"


def test_an_example_goes_through_the_template_where_that_was_chosen(
    jobs: InferenceJobs, store: RunStore, tmp_path: Path
) -> None:
    base, rows = write_base(tmp_path / "base"), tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": p, "completion": a}) + "\n" for p, a in ASKED.items()), "utf-8")
    made = trained(store.root.parent, base, rows, data={"chat_template": "raw"})
    example = done(jobs, jobs.examples(made.id)).parts["examples"]["list"][0]
    request = InferenceRequest(made.id, FINAL, example["prompt"], example=example["ref"])
    shown = {}
    for chat in (False, True):
        key = jobs.generate(replace(request, chat=chat), {"max_new_tokens": 2}, ["tuned"])
        shown[chat] = done(jobs, key).parts["prompt"]
    assert shown[False]["text"] == example["prompt"] + "\n" and shown[False]["chat"] is False
    expected = AutoTokenizer.from_pretrained(made.model_path).apply_chat_template(
        [{"role": "user", "content": example["prompt"]}], tokenize=False, add_generation_prompt=True
    )
    assert shown[True]["text"] == expected and shown[True]["chat"] is True
