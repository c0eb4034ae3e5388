"""The base model and the tuned one of a run, for asking them: loaded when needed, at most two at a time.

Knows run folders, checkpoints and adapters; nothing of prompts and of how they are answered. Adapters are laid over the
base that is held already, and switched off while the base itself is asked.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import ModelConfig
from geko_engine.exceptions import CheckpointError, ModelError
from geko_engine.models.loading import load_config_and_tokenizer, load_model_and_tokenizer
from geko_engine.models.lora import apply_lora, is_peft_available, lora_config_for
from geko_engine.models.quantization import is_quantized, silence_bitsandbytes
from geko_engine.models.saving import load_trainable_state
from geko_engine.preflight.memory_estimate import in_gigabytes, weight_bytes
from geko_engine.runs.folder import RunFolder
from geko_engine.training.checkpoint_files import read_manifest

FINAL = "final"
WEIGHTS = "weights.safetensors"
BESIDE_WEIGHTS = 1.15  # of the weights: what an answer takes beside them
ALWAYS = 200_000_000  # bytes beside any model
ShouldStop = Callable[[], bool]


@dataclass(frozen=True)
class Asked:
    """A run, and which of its models: FINAL or the name of a checkpoint."""

    folder: RunFolder
    config: RunConfig
    which: str = FINAL

    @classmethod
    def of(cls, folder: RunFolder, which: str = FINAL) -> Asked:
        return cls(folder, folder.config_with_saved_flags(), which)

    @property
    def path(self) -> Path:
        """The folder that the tuned weights are in."""
        return self.folder.model_path if self.which == FINAL else self.folder.checkpoints_path / self.which

    @property
    def base_key(self) -> tuple[Any, ...]:
        """The same for runs whose base model is the same in memory."""
        model, training = self.config.model, self.config.training
        return (model.name, model.revision, model.trust_remote_code, model.quantization, training.bf16, training.fp16)

    @property
    def tuned_key(self) -> tuple[Any, ...]:
        """Changes when the weights are written anew."""
        files = (self.path / name for name in (WEIGHTS, "config.json", "adapter_config.json"))
        return (self.path.resolve(), [file.stat().st_mtime_ns for file in files if file.is_file()])

    @property
    def saved_model(self) -> ModelConfig:
        """How the model that the run saved is loaded."""
        return replace(self.config.model, name=str(self.folder.model_path.resolve()), revision=None)


def open_run(asked: Asked, should_stop: ShouldStop | None = None) -> tuple[Any, Any]:
    """(config.json, tokenizer) of a run's models, from its own folder where it saved them. Raises as `load_config_and_tokenizer`."""
    saved = (asked.folder.model_path / "config.json").is_file()
    return load_config_and_tokenizer(asked.saved_model if saved else asked.config.model, should_stop=should_stop)


@dataclass
class _Held:
    key: tuple[Any, ...]
    model: Any
    adapts: bool = False  # laid over the base, and shares its weights


class RunModels:
    """Holds at most a base model and a tuned one; both in evaluation mode."""

    def __init__(self) -> None:
        self._base: _Held | None = None
        self._tuned: _Held | None = None

    @contextlib.contextmanager
    def base(self, asked: Asked, should_stop: ShouldStop | None = None) -> Iterator[Any]:
        """The model that the run began with.

        Raises:
            GekoError: when it cannot be loaded, or does not fit.
        """
        self._let_go_of_others(asked)
        model = self._hold_base(asked, should_stop).model
        if self._tuned is not None and self._tuned.adapts:
            with self._tuned.model.disable_adapter():
                yield model
        else:
            yield model

    @contextlib.contextmanager
    def tuned(self, asked: Asked, should_stop: ShouldStop | None = None) -> Iterator[Any]:
        """The model that the run made, or had at a checkpoint. Raises GekoError as `base` does."""
        self._let_go_of_others(asked)
        if self._tuned is None:
            self._tuned = self._load_tuned(asked, should_stop)
        yield self._tuned.model

    def _let_go_of_others(self, asked: Asked) -> None:
        """Only what belongs to `asked` stays in memory."""
        other_base = self._base is not None and self._base.key != asked.base_key
        if self._tuned is not None and (self._tuned.key != asked.tuned_key or (other_base and self._tuned.adapts)):
            if self._tuned.adapts and self._base is not None:
                self._base.model = self._tuned.model.unload()
            self._tuned = None
        if other_base:
            self._base = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _hold_base(self, asked: Asked, should_stop: ShouldStop | None) -> _Held:
        if self._base is None:
            self._base = _Held(asked.base_key, _loaded(asked, asked.config.model, should_stop))
        return self._base

    def _load_tuned(self, asked: Asked, should_stop: ShouldStop | None) -> _Held:
        adapts = asked.config.lora.enabled
        if asked.which != FINAL:
            read_manifest(asked.path, WEIGHTS)
            base = self._hold_base(asked, should_stop).model if adapts else None
            model = base if adapts else _loaded(asked, asked.config.model, should_stop)
            return _Held(asked.tuned_key, self._with_checkpoint(asked, model), adapts)
        if not (asked.path / ("adapter_config.json" if adapts else "config.json")).is_file():
            raise ModelError(f"The run {asked.folder.id} has saved no model yet: choose one of its checkpoints.")
        if not adapts:
            return _Held(asked.tuned_key, _loaded(asked, asked.saved_model, should_stop))
        if not is_peft_available():
            raise ModelError(
                'What this run saved are LoRA adapters, and they need peft: install it with `pip install "geko-finetune[peft]"`.'
            )
        silence_bitsandbytes()
        from peft import PeftModel

        model = PeftModel.from_pretrained(self._hold_base(asked, should_stop).model, str(asked.path))
        return _Held(asked.tuned_key, model.eval(), adapts=True)

    def _with_checkpoint(self, asked: Asked, model: Any) -> Any:
        """`model`, built as the run built it, with the trainable tensors of the checkpoint."""
        try:
            tensors = load_file(str(asked.path / WEIGHTS))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"The checkpoint {asked.which} cannot be read: choose another one.") from error
        lora = lora_config_for(asked.config.lora, model)
        adapted = model if lora is None else apply_lora(model, lora, lambda text: None)
        wrong = load_trainable_state(adapted, tensors)
        if wrong:
            if lora is not None and self._base is not None:
                self._base.model = adapted.unload()  # type: ignore[operator]
            raise CheckpointError(f"The checkpoint {asked.which} is of another model: {wrong[0]} does not fit.")
        return adapted.eval()


def _loaded(asked: Asked, config: ModelConfig, should_stop: ShouldStop | None) -> Any:
    """A model of the run, on the GPU where there is one with room for it."""
    size = _size(asked, should_stop)
    problem = room_problem(size, psutil.virtual_memory().available)
    if problem:
        raise ModelError(problem)
    model, _ = load_model_and_tokenizer(config, asked.config.training, should_stop=should_stop)
    if torch.cuda.is_available() and not is_quantized(model):
        model = model.to("cuda" if not room_problem(size, torch.cuda.mem_get_info()[0]) else "cpu")
    return model.eval()


def _size(asked: Asked, should_stop: ShouldStop | None) -> int:
    settings, _ = open_run(asked, should_stop)
    try:
        return weight_bytes(replace(asked.config, lora=replace(asked.config.lora, enabled=False)), settings)
    except Exception:  # noqa: BLE001 - an architecture may do anything without weights; loading will tell
        return 0


def room_problem(weights: int, free: int) -> str:
    """Why a model whose weights take so many bytes is not loaded into so many free ones, or ""."""
    needed = round(BESIDE_WEIGHTS * weights) + ALWAYS if weights else 0
    if needed <= free:
        return ""
    return (
        f"The model needs about {in_gigabytes(needed)} of memory, and {in_gigabytes(free)} are free: wait for the end of a "
        "running training, or ask a smaller model."
    )
