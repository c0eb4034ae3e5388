"""An adapter merged into its base model, saved as a complete model, and proved with prompts of the run."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GenerationConfig

from geko_engine.config.sections import ModelConfig
from geko_engine.exceptions import ExportError
from geko_engine.export.proof import Prompts, answers, equality_sentence, prompts_of
from geko_engine.export.results import (
    Exported,
    Say,
    ShouldStop,
    explain_disk,
    never,
    place_for,
    require_room,
    silent,
    stop_if,
)
from geko_engine.inference.run_models import ModelChoice, RunModels
from geko_engine.models.adapters import starting_adapter
from geko_engine.models.checks import quantized_with
from geko_engine.models.loading import load_config_and_tokenizer, load_model_and_tokenizer
from geko_engine.models.lora import is_peft_available
from geko_engine.models.names import is_rounded_base
from geko_engine.models.precision import weights_dtype
from geko_engine.models.saving import save_model, saved_bytes, set_end_token
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.atomic_files import replace_folder

MERGED = "merged"
DTYPES = ("auto", "bfloat16", "float16", "float32")
PROMPTS = 5  # of the run, to compare answers


def merge(
    run: str | Path | RunFolder,
    to: str | Path | None = None,
    *,
    dtype: str = "auto",
    prompts: int = PROMPTS,
    say: Say = silent,
    should_stop: ShouldStop = never,
) -> Exported:
    """Merge the adapter of a run into its base model and save the complete model, for any program that reads transformers'.

    A base model that was quantized for the training is loaded unquantized, but for an adapter of LoftQ, which makes up for the
    rounding to 4 bits: beside it, the weights keep the values that they had in 4 bits. A few prompts of the run are answered greedily
    by the tuned model before, and by the saved model after; the result counts equal answers.

    Args:
        run: folder of the run.
        to: a new folder; by default exports/merged in the run's folder, which is replaced.
        dtype: of the saved weights, one of DTYPES. auto is that of the base model's files, and bfloat16 where the
            training quantized them.
        prompts: how many to compare; 0 for none.
        say: called with what is being done.
        should_stop: called often; True cancels.

    Returns:
        The folder, and what to know about it.

    Raises:
        ExportError: there is no adapter, or it cannot be merged. ModelError: the base model cannot be loaded.
        Stopped: when should_stop returned True.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    asked = ModelChoice.of(folder)
    _require_adapter(folder)
    path = place_for(folder, MERGED, to)
    start = starting_adapter(asked.config.model)
    base = replace(start.base if start else asked.config.model, quantization="none")
    settings, _ = load_config_and_tokenizer(base, should_stop=should_stop)
    _require_plain_base(settings, base.name)
    wanted = _dtype(dtype, settings, asked.config.model)
    tokenizer = AutoTokenizer.from_pretrained(folder.model_path, trust_remote_code=base.trust_remote_code)
    asking = prompts_of(asked, tokenizer, settings, prompts, should_stop)
    before = _answers_of_run(asked, tokenizer, asking, say, should_stop) if asking.ids else []
    _write(asked, base, path, wanted, tokenizer, say, should_stop)
    _free_memory()
    named = str(wanted).removeprefix("torch.")
    sentences = [f"The merged model is in {str(path)!r}, its weights in {named}."]
    if is_rounded_base(folder.model_path):
        sentences.append(
            "The adapter was trained with LoftQ, so it was merged into the values that the base model's weights have in 4 bits."
        )
    elif asked.config.model.quantization != "none":
        sentences.append(
            f"The training held the base model in {asked.config.model.quantization}; it was merged unquantized, in {named}, "
            "so answers can differ."
        )
    sentences += asking.notes
    if not asking.ids:
        return Exported(str(path), tuple(sentences))
    after = _answers_of_saved(path, base, wanted, asking, say, should_stop)
    sentences.append(equality_sentence(before, after, named))
    same = sum(a == b for a, b in zip(before, after, strict=True))
    return Exported(str(path), tuple(sentences), compared=len(before), equal=same)


def whole_model(folder: RunFolder, say: Say, should_stop: ShouldStop) -> tuple[Path, Exported | None]:
    """(folder of the run's complete model, how it was merged). An adapter is merged unless that was done since it was saved."""
    if not (folder.model_path / "adapter_config.json").is_file():
        _require_model(folder)
        return folder.model_path, None
    merged = folder.exports_path / MERGED
    if (merged / "config.json").is_file() and _saved_at(merged) >= _saved_at(folder.model_path):
        return merged, None
    made = merge(folder, say=say, should_stop=should_stop)
    return Path(made.place), made


def _saved_at(path: Path) -> int:
    return max(file.stat().st_mtime_ns for file in path.iterdir())


def _require_model(folder: RunFolder) -> None:
    if not (folder.model_path / "config.json").is_file():
        raise ExportError(f"The run {folder.id} has not saved a model yet: let it finish, or stop it, which saves one.")


def _require_adapter(folder: RunFolder) -> None:
    if (folder.model_path / "adapter_config.json").is_file():
        if not is_peft_available():
            raise ExportError('An adapter needs peft: install it with `pip install "geko-finetune[peft]"`.')
        return
    _require_model(folder)
    raise ExportError(
        f"The run {folder.id} trained all weights, so there is no adapter to merge: its model in "
        f"{str(folder.model_path)!r} is complete as it is."
    )


def _require_plain_base(settings: Any, name: str) -> None:
    if quantized_with(settings):
        raise ExportError(
            f"The files of the base model {name!r} are quantized ({quantized_with(settings)}), and an adapter cannot be "
            "merged into rounded weights without loss: train on the original model, or use the adapter as it is."
        )


def _dtype(asked: str, settings: Any, model: ModelConfig) -> torch.dtype:
    if asked not in DTYPES:
        raise ExportError(f"{asked!r} is not a precision of weights: give one of {', '.join(DTYPES)}.")
    if asked != "auto":
        chosen: torch.dtype = getattr(torch, asked)
        return chosen
    if model.quantization != "none":
        return torch.bfloat16
    own = getattr(settings, "dtype", None)
    return own if isinstance(own, torch.dtype) else torch.float32


def _write(
    asked: ModelChoice,
    base: ModelConfig,
    path: Path,
    dtype: torch.dtype,
    tokenizer: Any,
    say: Say,
    should_stop: ShouldStop,
) -> None:
    """Load, merge and save; nothing of it stays in memory."""
    say(f"Loading the base model {base.name}")
    model, _ = load_model_and_tokenizer(base, dtype=dtype, should_stop=should_stop)
    require_room(path, saved_bytes(model))
    adapter = asked.folder.model_path
    if is_rounded_base(adapter):
        _round(model, asked, base, say, should_stop)
    say("Merging the adapter")
    merged = _merged(model, adapter)
    stop_if(should_stop)
    if (adapter / "generation_config.json").is_file():
        merged.generation_config = GenerationConfig.from_pretrained(adapter)
    set_end_token(merged, tokenizer, tokenizer.eos_token or "")
    say("Saving the merged model")
    with explain_disk(path):
        replace_folder(path, lambda temporary: save_model(merged, tokenizer, temporary))


def _round(model: Any, asked: ModelChoice, base: ModelConfig, say: Say, should_stop: ShouldStop) -> None:
    """Give the weights of the base model the values that they had in the training, in 4 bits."""
    from geko_engine.models.loftq import take_rounding

    say(f"Loading the base model {base.name} in 4 bits")
    in_training, dtype = replace(base, quantization="4bit"), weights_dtype(asked.config)
    rounded, _ = load_model_and_tokenizer(in_training, asked.config.training, dtype=dtype, should_stop=should_stop)
    take_rounding(model, rounded)


def _merged(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, NotImplementedError) as error:  # not finite, of other sizes, of another kind
        first = (str(error).splitlines() or [""])[0]
        raise ExportError(
            f"The adapter in {str(adapter)!r} cannot be merged into its base model ({first}): use the adapter as it is."
        ) from error


def _answers_of_run(
    asked: ModelChoice, tokenizer: Any, asking: Prompts, say: Say, should_stop: ShouldStop
) -> list[str]:
    say("Loading the tuned model")
    models = RunModels()
    with models.tuned(asked, should_stop) as model:
        found = answers(model, tokenizer, asking, "the tuned model", say, should_stop)
    del models, model
    _free_memory()
    return found


def _answers_of_saved(
    path: Path, base: ModelConfig, dtype: torch.dtype, asking: Prompts, say: Say, should_stop: ShouldStop
) -> list[str]:
    say("Loading the merged model")
    saved = replace(base, name=str(path.resolve()), revision=None)
    model, tokenizer = load_model_and_tokenizer(saved, dtype=dtype, should_stop=should_stop)
    found = answers(model.eval(), tokenizer, asking, "the merged model", say, should_stop)
    del model
    _free_memory()
    return found


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
