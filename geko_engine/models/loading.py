"""Loading a model and its tokenizer. Knows transformers, but no data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from geko_engine.config.declaration import check, raise_problems
from geko_engine.config.sections import DEMO, ModelConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.data.local_files import is_local
from geko_engine.demo import demo_path
from geko_engine.exceptions import GekoError, ModelError
from geko_engine.hub.client import fetch_model
from geko_engine.hub.downloads import DownloadProgress, OnProgress, ShouldStop, offline, run_cancellable
from geko_engine.models.adapters import Adapter, adapter_at, add_adapter
from geko_engine.models.attention import attention_options, refused_attention
from geko_engine.models.checks import (
    check_kind,
    check_vocabulary,
    check_weights,
    loading_error,
    quantized_with,
)
from geko_engine.models.names import ADAPTER, model_problem
from geko_engine.models.quantization import prepare_quantized_for_training, quantization_config, require_bitsandbytes

NO_LIMIT = 1_000_000_000
Loaded = TypeVar("Loaded")


def load_model_and_tokenizer(
    config: ModelConfig,
    args: GEKOTrainingArgs | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    should_stop: ShouldStop | None = None,
    on_progress: OnProgress | None = None,
    train_adapter: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer. For the name of an adapter, its base model is loaded with it.

    A tokenizer without a pad token pads with its end-of-sequence token; padding never counts in the loss.

    Args:
        config: which model.
        args: for the precision in which quantized weights are multiplied (default float32).
        dtype: in which the weights are held, whatever the files have.
        should_stop: called during a download; True cancels it.
        on_progress: called with (bytes downloaded, bytes to download).
        train_adapter: keep an adapter beside its base model, to train it on; otherwise it is merged.
        note: called with one sentence on what was done with an adapter.

    Returns:
        (model, tokenizer).

    Raises:
        ConfigError: at model.quantization, if bitsandbytes is missing; at model.attn_implementation, if it cannot run here.
        ModelError: at model.name, model.revision or model.trust_remote_code.
        Stopped: if should_stop returned True.
    """
    training = args or GEKOTrainingArgs()
    bits = quantization_config(config.quantization, training)
    chosen = {"dtype": dtype, **attention_options(config, half=training.bf16 or training.fp16 or dtype.itemsize == 2)}

    def load(source: str, options: dict[str, Any]) -> Adapter | tuple[Any, dict[str, Any], Any]:
        adapter = _adapter_of(source, options, config)
        return adapter or _from_pretrained(source, config, {**options, **chosen}, bits)

    found = _with_source(config, load, should_stop, on_progress)
    if isinstance(found, Adapter):
        base, tokenizer = load_model_and_tokenizer(
            found.base, args, dtype=dtype, should_stop=should_stop, on_progress=on_progress
        )
        note(found.trained_on if train_adapter else found.merged)
        return add_adapter(base, found, trainable=train_adapter), _tokenizer_of(found) or tokenizer
    model, loading, tokenizer = found
    prepare_quantized_for_training(model)
    check_weights(model, loading, config.name)
    check_vocabulary(model, tokenizer, config.name)
    return model, tokenizer


def load_config_and_tokenizer(config: ModelConfig, *, should_stop: ShouldStop | None = None) -> tuple[Any, Any]:
    """The config and the tokenizer of a model, without its weights.

    Args:
        config: which model.
        should_stop: called during a download; True cancels it.

    Returns:
        (transformers.PretrainedConfig, tokenizer).

    Raises:
        ModelError, Stopped: like `load_model_and_tokenizer`.
    """

    def load(source: str, options: dict[str, Any]) -> Adapter | tuple[Any, Any]:
        return _adapter_of(source, options, config) or _config_and_tokenizer(source, config, options)

    found = _with_source(config, load, should_stop, None, weights=False)
    if isinstance(found, Adapter):
        settings, tokenizer = load_config_and_tokenizer(found.base, should_stop=should_stop)
        return settings, _tokenizer_of(found) or tokenizer
    return found


def longest_input(settings: Any) -> int:
    """Number of positions of a model with this config; NO_LIMIT if it names none."""
    return int(getattr(settings.get_text_config(), "max_position_embeddings", 0) or NO_LIMIT)


def _with_source(
    config: ModelConfig,
    load: Callable[[str, dict[str, Any]], Loaded],
    should_stop: ShouldStop | None,
    on_progress: OnProgress | None,
    *,
    weights: bool = True,
) -> Loaded:
    """Call `load(source, options)` for the demo, for a local folder, or for files downloaded from the Hub."""
    raise_problems(list(check(config, "model.")))
    problem = model_problem(config.name)
    if problem:
        raise ModelError(problem, "model.name")
    if config.name == DEMO or is_local(config.name):
        # An adapter names its base model by this path, and is read from other folders: it must be absolute.
        source = (demo_path("model") if config.name == DEMO else Path(config.name).expanduser()).resolve()
        return _explained(config, lambda: load(str(source), {}))
    progress = DownloadProgress()

    def work() -> Loaded:
        options = fetch_model(config.name, config.revision, progress, weights=weights)
        reached = "local_files_only" not in options
        with contextlib.nullcontext() if reached else offline():
            return _explained(config, lambda: load(config.name, options), reached=reached)

    return run_cancellable(work, should_stop, progress, on_progress)


def _explained(config: ModelConfig, work: Callable[[], Loaded], *, reached: bool = True) -> Loaded:
    try:
        return work()
    except GekoError:
        raise
    except Exception as error:  # transformers raises OSError, ValueError, KeyError and the Hub's own families
        raise refused_attention(error, config) or loading_error(error, config, reached=reached) from error


def _adapter_of(source: str, options: dict[str, Any], config: ModelConfig) -> Adapter | None:
    """The adapter that was found in the place of a complete model."""
    if not options:
        return adapter_at(Path(source), config)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source, ADAPTER, revision=options["revision"])
    return adapter_at(Path(found).parent, config) if isinstance(found, str) else None


def _tokenizer_of(adapter: Adapter) -> Any | None:
    """The tokenizer that was saved with an adapter, which may have a template and an end that its base model has not."""
    if not (adapter.path / "tokenizer_config.json").is_file():
        return None
    from transformers import AutoTokenizer

    options = {"trust_remote_code": adapter.base.trust_remote_code}
    return _explained(adapter.base, lambda: _padding(AutoTokenizer.from_pretrained(str(adapter.path), **options)))


def _padding(tokenizer: Any) -> Any:
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def _config_and_tokenizer(source: str, config: ModelConfig, options: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoTokenizer

    options = {"trust_remote_code": config.trust_remote_code, **options}
    settings = AutoConfig.from_pretrained(source, **options)
    check_kind(settings, config.name)
    return settings, _padding(AutoTokenizer.from_pretrained(source, **options))


def _from_pretrained(
    source: str, config: ModelConfig, options: dict[str, Any], bits: Any | None
) -> tuple[Any, dict[str, Any], Any]:
    """(model, loading info of its weights, tokenizer). Raises what transformers raises."""
    from transformers import AutoModelForCausalLM

    chosen: dict[str, Any] = {k: options.pop(k) for k in ("dtype", "attn_implementation") if k in options}
    settings, tokenizer = _config_and_tokenizer(source, config, options)
    options = {"trust_remote_code": config.trust_remote_code, **chosen, **options}
    if quantized_with(settings):  # the files decide, not the setting
        require_bitsandbytes(f"The quantized weights of {config.name!r}", "give the original model")
    elif bits is not None:
        options["quantization_config"] = bits
    model, loading = AutoModelForCausalLM.from_pretrained(source, output_loading_info=True, **options)
    model.loaded_revision = options.get("revision")  # its config names the repository alone
    return model, loading, tokenizer
