"""muon: the matrices of the layers by torch's Muon, the rest by AdamW, in one optimizer that is saved and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

from geko_engine import GEKOTrainingArgs
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import ConfigError
from geko_engine.preflight.memory_estimate import footprint
from geko_engine.reporting.events import StepCompleted
from geko_engine.training.optimizer import build_optimizer, hidden_matrices, require_optimizer, state_bytes
from geko_engine.training.schedule import learning_rate_at, warmup_share
from tests.engine.conftest import small_gpt2, small_llama
from tests.engine.training.test_exactness import plain_order
from tests.engine.training.test_trainer import OFF, assert_same_weights, sum_data, trainer_for, weights

pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon")
MUON = {"optim": "muon"}


def test_it_ends_where_muon_and_adamw_end_side_by_side(tmp_path: Path) -> None:
    losses: list[float] = []
    trainer = trainer_for(
        tmp_path,
        config=OFF,
        args=MUON,
        on_event=lambda e: losses.append(e.loss) if isinstance(e, StepCompleted) else None,
    )
    trainer.train()

    model = small_llama().train()
    layers = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers." in name]
    norms = [p for p in model.parameters() if p.ndim == 1]
    muon = torch.optim.Muon(layers, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    others = [{"params": [model.lm_head.weight], "weight_decay": 0.01}, {"params": norms, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(others, fused=True)
    data, reference = sum_data(), []
    order = plain_order(48, 3, data.lengths)
    for step, ids in enumerate(order):
        for group in (*muon.param_groups, *adamw.param_groups):
            group["lr"] = learning_rate_at(step / len(order), 5e-3, warmup_share(2, len(order)))
        loss = model(**trainer.engine.collate([data[i] for i in ids])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        muon.step()
        adamw.step()
        model.zero_grad()
        reference.append(float(loss.detach()))
    assert losses == pytest.approx(reference, abs=2e-3)  # Muon multiplies in bfloat16
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(weights(trainer)[name], parameter, atol=3e-3, rtol=0)


def test_stopped_and_resumed_it_ends_as_if_unbroken(tmp_path: Path) -> None:
    whole = trainer_for(tmp_path / "whole", args=MUON)
    whole.train()
    asked = iter(range(10**9))
    trainer_for(tmp_path / "part", args=MUON, should_stop=lambda: next(asked) >= 8).train()
    (checkpoint,) = (tmp_path / "part" / "out").glob("checkpoint-*")
    resumed = trainer_for(tmp_path / "part", args=MUON)
    resumed.load_checkpoint(checkpoint)
    resumed.train()
    assert_same_weights(weights(whole), weights(resumed))


@pytest.mark.parametrize("make", [small_llama, small_gpt2, lambda: small_llama(tie_word_embeddings=False)])
def test_embeddings_norms_and_the_output_layer_are_left_to_adamw(make: Any) -> None:
    model = make()
    chosen = {id(p) for p in hidden_matrices(model)}
    names = {name for name, p in model.named_parameters() if id(p) in chosen}
    assert names == {n for n, p in model.named_parameters() if p.ndim == 2 and (".layers." in n or ".h." in n)}
    optimizer = build_optimizer(model, GEKOTrainingArgs(optim="muon"))
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert len(groups) == len(list(model.parameters()))
    for parameter in model.parameters():
        group = groups[id(parameter)]
        assert group["muon"] is (id(parameter) in chosen)
        assert (group["weight_decay"] > 0) is (parameter.ndim > 1)


def test_it_trains_adapters_alone_too(tmp_path: Path) -> None:
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = trainer_for(tmp_path, config=OFF, args=MUON | {"num_epochs": 1}, lora_config=lora)
    before = weights(trainer)
    trainer.train()
    moved = {name for name, value in weights(trainer).items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if "lora_" in name}


def test_its_state_is_estimated_as_large_as_it_is(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, config=OFF, args=MUON | {"num_epochs": 1})
    expected = state_bytes(trainer.model, "muon")
    found = footprint(RunConfig.from_dict({"training": MUON}), trainer.model.config, 4, 20, 40)
    trainer.train()
    state = [value for values in trainer.engine.optimizer.state.values() for value in values.values()]
    assert sum(v.nbytes for v in state if v.ndim) == expected == found.optimizer


def test_an_older_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ConfigError, match=r"muon needs PyTorch 2\.9, and .* is installed") as caught:
        require_optimizer(GEKOTrainingArgs(optim="muon"))
    assert caught.value.field == "training.optim"
