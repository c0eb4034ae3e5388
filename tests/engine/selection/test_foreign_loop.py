"""The rule is a library of its own: a plain PyTorch loop drives it, and ends with GEKOTrainer's weights, bit by bit."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.utils import set_seed

from geko_engine import GEKOConfig
from geko_engine.data.batches import Collator
from geko_engine.scoring.evaluation import as_columns, in_id_order, score_samples
from geko_engine.scoring.sample_scores import Scorer
from geko_engine.selection.geko_policy import GekoPolicy
from geko_engine.selection.policy import EpochInfo, SampleSignals, When
from geko_engine.training.optimizer import build_optimizer
from geko_engine.training.schedule import learning_rate_at, warmup_share
from tests.engine.conftest import small_gpt2
from tests.engine.selection.test_prompt_similarity import sum_data
from tests.engine.selection.test_stability import text_data
from tests.engine.training.test_trainer import assert_same_weights, trainer_for, weights

EPOCHS = 4
SCAN: dict[str, Any] = {"should_stop": lambda: False, "with_tokens": True}


class Scored(torch.nn.Module):
    """A model that answers with the scores of its samples."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model, self.scorer = model, Scorer(model)

    def forward(self, batch: dict[str, torch.Tensor], weights: Any = None) -> Any:
        return self.scorer(self.model, batch, weights)


def foreign_loop(model: torch.nn.Module, data: Any, config: GEKOConfig, args: Any) -> GekoPolicy:
    """Forty lines that know no bucket, no similar prompt and no panel."""
    scored, collate, options = Scored(model), Collator(0), {"device": torch.device("cpu"), **SCAN}
    optimizer, size = build_optimizer(model, args), args.batch_size
    policy = GekoPolicy(config, data, epochs=EPOCHS, seed=args.seed, step_size=size)
    warmup, step = warmup_share(args.warmup_steps, EPOCHS * -(-len(data) // size)), 0

    def look(when: When, done: int = 0) -> None:
        if request := policy.scan_request(when, done):
            found = in_id_order(score_samples(scored, data, request.ids, collate, batch_size=size, **options))
            signals = (found.loss, found.correct, found.confidence, found.min_target_probability, found.probability)
            policy.scanned(request, SampleSignals(*signals))

    model.train()
    for epoch in range(EPOCHS):
        look(When.EPOCH_START)
        plan, done = policy.begin_epoch(EpochInfo(epoch, step, epoch / EPOCHS)), 0
        if plan is None:
            break
        while done < plan.steps:
            look(When.STEP, done)
            if revised := policy.replan(done):
                plan, done = revised, 0
                continue
            ids = plan.ids(done)
            batch = collate([data[int(i)] for i in ids])
            scores = scored(batch, torch.as_tensor(plan.weights(done)))
            (scores.objective * (1 / max(1, int(data.targets[ids].sum())))).backward()
            for group in optimizer.param_groups:
                progress = min(1.0, (epoch + plan.share_done(done)) / EPOCHS)
                group["lr"] = learning_rate_at(progress, args.learning_rate, warmup)
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            done, step = done + 1, step + 1
            _, _, loss, correct, confidence, smallest, _ = as_columns(scores, batch["input_ids"].shape[1])
            policy.observe(ids, SampleSignals(loss, correct > 0.5, confidence, smallest), step)
        look(When.EPOCH_END)
        policy.end_epoch()
    look(When.RUN_END)
    return policy


@pytest.mark.parametrize("kind", ["short answers", "free text"])
def test_a_foreign_loop_ends_as_the_trainer_does(tmp_path: Path, kind: str) -> None:
    """Predictions decide on short answers, the panel on free text; both are on in both."""
    data = sum_data(600) if kind == "short answers" else text_data()
    config = GEKOConfig(min_known_share=0.0, freeze_confidence=0.3, min_q_for_freeze=0.5, prediction_confidence=0.6)
    rates = {"learning_rate": 1e-2} if kind == "short answers" else {"learning_rate": 1e-3, "batch_size": 16}
    trainer = trainer_for(tmp_path, small_gpt2(), config, data=data, args={"num_epochs": EPOCHS, **rates})
    model = small_gpt2()
    model.load_state_dict(trainer.model.state_dict())
    report = trainer.train()
    set_seed(trainer.args.seed)
    policy = foreign_loop(model, data, config, trainer.args)
    assert_same_weights(weights(trainer), dict(model.named_parameters()))
    for name, array in trainer.states.arrays.items():
        np.testing.assert_array_equal(array, policy.states.arrays[name], err_msg=name)
    summary = policy.summary()
    assert {name: report[name] for name in summary} == summary
    used = report["predicted"][0]["left_out"] if kind == "short answers" else sum(s["stable"] for s in report["churn"])
    assert used > 50


@pytest.mark.slow
def test_the_rule_imports_with_numpy_alone(tmp_path: Path) -> None:
    """In an empty environment that sees numpy and this package, and nothing else that is installed here."""
    venv.create(tmp_path / "empty", with_pip=False)
    python = tmp_path / "empty" / "bin" / "python"
    numpy_folder = Path(np.__file__).parent
    packages = tmp_path / "packages"
    packages.mkdir()
    for source in (numpy_folder, numpy_folder.parent / "numpy.libs", Path(__file__).parents[3] / "geko_engine"):
        if source.exists():
            (packages / source.name).symlink_to(source)
    code = (
        "import pkgutil, importlib, sys, geko_engine.selection as s\n"
        "[importlib.import_module(f'geko_engine.selection.{m.name}') for m in pkgutil.iter_modules(s.__path__)]\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'transformers', 'safetensors', 'accelerate', 'yaml'}))"
    )
    done = subprocess.run(
        [str(python), "-c", code], env={"PYTHONPATH": str(packages)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
    assert sys.version_info >= (3, 11)
