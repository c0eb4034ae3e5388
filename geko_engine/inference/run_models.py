"""The base and the tuned model of a run, loaded when needed, at most two at a time.

Knows run folders, checkpoints and adapters, but no prompts and no generation. Adapters are added to the loaded base
model, and disabled while the base model itself is used.
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
from geko_engine.config.sections import LOFTQ, PISSA, ModelConfig
from geko_engine.exceptions import CheckpointError, ModelError
from geko_engine.models.adapters import starting_adapter
from geko_engine.models.loading import load_config_and_tokenizer, load_model_and_tokenizer
from geko_engine.models.lora import apply_lora, is_peft_available, lora_config_for
from geko_engine.models.precision import weights_dtype
from geko_engine.models.quantization import is_quantized
from geko_engine.models.saving import load_trainable_state
from geko_engine.preflight.memory_estimate import in_gigabytes, weight_bytes
from geko_engine.runs.folder import RunFolder
from geko_engine.training.checkpoint import ENDING
from geko_engine.training.checkpoint_files import read_manifest
from geko_engine.training.ending import AVERAGE

FINAL = "final"
WEIGHTS = "weights.safetensors"
NEEDED_PER_WEIGHT = 1.15  # memory for generation as a factor on the weights
NEEDED_ALWAYS = 200_000_000  # bytes, for any model
ShouldStop = Callable[[], bool]


@dataclass(frozen=True)
class ModelChoice:
    """One tuned model of a run.

    Attributes:
        folder, config: of the run.
        which: FINAL or the name of a checkpoint.
    """

    folder: RunFolder
    config: RunConfig
    which: str = FINAL

    @classmethod
    def of(cls, folder: RunFolder, which: str = FINAL) -> ModelChoice:
        return cls(folder, folder.config_with_saved_flags(), which)

    @property
    def path(self) -> Path:
        """The folder of the tuned weights."""
        return self.folder.model_path if self.which == FINAL else self.folder.checkpoints_path / self.which

    @property
    def base_key(self) -> tuple[Any, ...]:
        """Equal for runs that can share the base model in memory."""
        model, training = self.config.model, self.config.training
        precision = (weights_dtype(self.config), training.bf16, training.fp16)
        return (model.name, model.revision, model.trust_remote_code, model.quantization, *precision)

    @property
    def tuned_key(self) -> tuple[Any, ...]:
        """Changes when the weights are rewritten."""
        files = (self.path / name for name in (WEIGHTS, ENDING, "config.json", "adapter_config.json"))
        return (self.path.resolve(), [file.stat().st_mtime_ns for file in files if file.is_file()])

    @property
    def saved_model(self) -> ModelConfig:
        """The settings to load the model that the run saved."""
        return replace(self.config.model, name=str(self.folder.model_path.resolve()), revision=None)


def load_run_config_and_tokenizer(asked: ModelChoice, should_stop: ShouldStop | None = None) -> tuple[Any, Any]:
    """(config, tokenizer) of a run's models, from the run folder if they were saved. Raises like load_config_and_tokenizer."""
    saved = (asked.folder.model_path / "config.json").is_file()
    return load_config_and_tokenizer(asked.saved_model if saved else asked.config.model, should_stop=should_stop)


@dataclass
class _Loaded:
    key: tuple[Any, ...]
    model: Any
    adapts: bool = False  # an adapter on the base model, which shares its weights


class RunModels:
    """Keeps at most one base model and one tuned model, both in evaluation mode."""

    def __init__(self) -> None:
        self._base: _Loaded | None = None
        self._tuned: _Loaded | None = None

    @contextlib.contextmanager
    def base(self, asked: ModelChoice, should_stop: ShouldStop | None = None) -> Iterator[Any]:
        """The model that the run started from.

        Raises:
            GekoError: if it cannot be loaded or does not fit into memory.
        """
        self._unload_others(asked)
        model = self._load_base(asked, should_stop).model
        if self._tuned is not None and self._tuned.adapts:
            with self._tuned.model.disable_adapter():
                yield model
        else:
            yield model

    @contextlib.contextmanager
    def tuned(self, asked: ModelChoice, should_stop: ShouldStop | None = None) -> Iterator[Any]:
        """The model that the run saved, or had at a checkpoint. Raises GekoError like `base`."""
        self._unload_others(asked)
        if self._tuned is None:
            self._tuned = self._load_tuned(asked, should_stop)
        yield self._tuned.model

    def _unload_others(self, asked: ModelChoice) -> None:
        """Unload every model that is not one of `asked`."""
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

    def _load_base(self, asked: ModelChoice, should_stop: ShouldStop | None) -> _Loaded:
        if self._base is None:
            self._base = _Loaded(asked.base_key, _loaded(asked, asked.config.model, should_stop))
        return self._base

    def _load_tuned(self, asked: ModelChoice, should_stop: ShouldStop | None) -> _Loaded:
        adapts = asked.config.lora.enabled
        if asked.which != FINAL:
            read_manifest(asked.path, WEIGHTS, ENDING)
            continued = starting_adapter(asked.config.model) is not None
            shares = (
                adapts and not continued and asked.config.lora.init_lora_weights not in PISSA
            )  # changes base weights
            base = self._load_base(asked, should_stop).model if shares else None
            model = base if shares else _loaded(asked, asked.config.model, should_stop, train_adapter=adapts)
            return _Loaded(asked.tuned_key, self._with_checkpoint(asked, model), shares)
        if not (asked.path / ("adapter_config.json" if adapts else "config.json")).is_file():
            raise ModelError(f"The run {asked.folder.id} has not saved a model yet: choose one of its checkpoints.")
        if not adapts:
            return _Loaded(asked.tuned_key, _loaded(asked, asked.saved_model, should_stop))
        if not is_peft_available():
            raise ModelError(
                'This run saved LoRA adapters, which need peft: install it with `pip install "geko-finetune[peft]"`.'
            )
        from peft import PeftModel

        start = starting_adapter(
            asked.config.model
        )  # is part of the base that the run began with, but not of this adapter's
        base = self._load_base(asked, should_stop).model if start is None else _loaded(asked, start.base, should_stop)
        model = PeftModel.from_pretrained(base, str(asked.path))
        return _Loaded(asked.tuned_key, model.eval(), adapts=start is None)

    def _with_checkpoint(self, asked: ModelChoice, model: Any) -> Any:
        """`model`, built as the run built it, with the trainable tensors of the checkpoint."""
        try:
            tensors = load_file(str(asked.path / WEIGHTS))
            if (asked.path / ENDING).is_file():  # the average is what the run evaluates, and would deliver
                kept = load_file(str(asked.path / ENDING))
                tensors |= {name.removeprefix(AVERAGE): kept[name] for name in kept if name.startswith(AVERAGE)}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"The checkpoint {asked.which} cannot be read: choose another one.") from error
        begins = asked.config.lora
        if (
            begins.init_lora_weights == LOFTQ
        ):  # leaves the base weights as they are, and the checkpoint has the adapters
            begins = replace(begins, init_lora_weights="default")
        lora = None if hasattr(model, "peft_config") else lora_config_for(begins, model)
        torch.manual_seed(asked.config.training.seed)  # pissa_niter draws: the same as in training
        adapted = model if lora is None else apply_lora(model, lora, lambda text: None)
        wrong = load_trainable_state(adapted, tensors)
        if wrong:
            if lora is not None and self._base is not None and self._base.model is model:
                self._base.model = adapted.unload()  # type: ignore[operator]
            raise CheckpointError(f"The checkpoint {asked.which} is of another model: {wrong[0]} does not fit.")
        return adapted.eval()


def _loaded(
    asked: ModelChoice, config: ModelConfig, should_stop: ShouldStop | None, *, train_adapter: bool = False
) -> Any:
    """Load a model of the run, on the GPU if there is one with enough memory."""
    size = _size(asked, should_stop)
    problem = memory_problem(size, psutil.virtual_memory().available)
    if problem:
        raise ModelError(problem)
    model, _ = load_model_and_tokenizer(
        config,
        asked.config.training,
        dtype=weights_dtype(asked.config),
        should_stop=should_stop,
        train_adapter=train_adapter,
    )
    if torch.cuda.is_available() and not is_quantized(model):
        model = model.to("cuda" if not memory_problem(size, torch.cuda.mem_get_info()[0]) else "cpu")
    return model.eval()


def _size(asked: ModelChoice, should_stop: ShouldStop | None) -> int:
    settings, _ = load_run_config_and_tokenizer(asked, should_stop)
    try:
        base = replace(asked.config, lora=replace(asked.config.lora, enabled=False))
        return weight_bytes(base, settings, weights_dtype(asked.config))
    except Exception:  # noqa: BLE001 - an architecture may fail without weights; loading reports it
        return 0


def memory_problem(weights: int, free: int) -> str:
    """Why a model does not fit into memory, or "".

    Args:
        weights: bytes of its weights; 0 if unknown.
        free: bytes.
    """
    needed = round(NEEDED_PER_WEIGHT * weights) + NEEDED_ALWAYS if weights else 0
    if needed <= free:
        return ""
    return (
        f"The model needs about {in_gigabytes(needed)} of memory, but {in_gigabytes(free)} are free: wait until the "
        "active training has ended, or use a smaller model."
    )
