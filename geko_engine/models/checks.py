"""Checks that a model can be fine-tuned, with one sentence for each problem. Loads nothing and knows no data."""

from __future__ import annotations

import importlib.metadata
import re
from typing import Any

from geko_engine.config.sections import ModelConfig
from geko_engine.exceptions import GekoError, ModelError
from geko_engine.hub.client import hub_error

# Part of a library's error -> our sentence. {name} is the model's name, {error} the first line of the error.
SENTENCES: tuple[tuple[str, str], ...] = (
    (
        "does not recognize this architecture",
        "The model {name!r} is of a type that transformers {version} does not know ({type}): install a newer "
        "transformers, or switch on trust_remote_code if the model has its own code.",
    ),
    ("Unrecognized model in", "The config.json of {name!r} names no model_type: give the folder of a complete model."),
    (
        "Unrecognized configuration class",
        "The model {name!r} is not a causal language model ({type}), so it cannot generate text: give one that can.",
    ),
    (
        "have a file named config.json",
        "{name!r} has no config.json, so it is not a complete model: give the model itself, not an adapter or a GGUF "
        "file.",
    ),
    ("not a valid JSON file", "The config.json of {name!r} is damaged: download the model again."),
    (
        "o file named model.safetensors",
        "{name!r} has a config.json but no weights (model.safetensors or pytorch_model.bin): give the complete model.",
    ),
    ("have a file named pytorch_model.bin", "{name!r} has a config.json but no weights: give the complete model."),
    ("No such file or directory", "A file of the model {name!r} is missing ({error}): download the model again."),
    ("SafetensorError", "The weights of {name!r} are damaged or cut off ({error}): download the model again."),
    ("PytorchStreamReader", "The weights of {name!r} are damaged or cut off: download the model again."),
    ("UnpicklingError", "The weights of {name!r} are damaged or cut off: download the model again."),
    (
        "ignore_mismatched_sizes",
        "The weights of {name!r} do not have the sizes in its config.json: one of them belongs to another model.",
    ),
    (
        "instantiate the backend tokenizer",
        "The tokenizer of {name!r} cannot be loaded: its folder needs a tokenizer.json. If it only has a "
        "tokenizer.model, install sentencepiece or tiktoken.",
    ),
    ("JSONDecodeError", "The tokenizer of {name!r} is damaged ({error}): download the model again."),
    (
        "requires the following packages",
        "The model {name!r} has code that needs other packages: {error}",
    ),
)


def loading_error(error: Exception, config: ModelConfig, *, reached: bool = True) -> GekoError:
    """A library's error while loading a model, as one sentence.

    Args:
        error: the exception.
        config: of the model.
        reached: whether the Hub could be reached when loading began.
    """
    text = f"{type(error).__name__} {error}"
    if "trust_remote_code=True" in text:
        return ModelError(
            f"The model {config.name!r} has its own Python code: switch on trust_remote_code if you trust its author.",
            "model.trust_remote_code",
        )
    first_line = (str(error).splitlines() or [""])[0]
    for part, sentence in SENTENCES:
        if part in text:
            version, kind = transformers_version(), re.search(r"model type `(.+?)`|\.(\w+Config)'>", text)
            named = next(filter(None, kind.groups())) if kind else "unnamed"
            message = sentence.format(name=config.name, error=first_line, version=version, type=named)
            return ModelError(message, "model.name")
    if config.trust_remote_code and isinstance(error, AttributeError | ImportError | NameError | TypeError):
        return ModelError(
            f"The code of the model {config.name!r} does not run here ({type(error).__name__}: {first_line}). It was "
            f"written for another version of transformers than {transformers_version()}: give a model of the same "
            "family without its own code.",
            "model.name",
        )
    return hub_error(error, config.name, "model", config.revision, reached=reached)


def check_kind(settings: Any, name: str) -> None:
    """Raise ModelError for models that load without an error but cannot be fine-tuned.

    Args:
        settings: the model's config (transformers.PretrainedConfig).
        name: of the model.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if settings.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(settings, "is_decoder", False):
        raise ModelError(
            f"The model {name!r} is not a causal language model ({settings.model_type}): it fills in masked words and "
            "sees the words it should predict. Give a model that generates text.",
            "model.name",
        )
    if getattr(settings, "is_encoder_decoder", False) or settings.model_type == "trocr":
        raise ModelError(
            f"The model {name!r} is an encoder-decoder model ({settings.model_type}) or one half of one, and not a causal "
            "language model: give one that continues a text.",
            "model.name",
        )
    method = quantized_with(settings)
    if method not in ("", "bitsandbytes"):
        raise ModelError(
            f"The weights of {name!r} are already quantized ({method}) and cannot be trained: give the original model.",
            "model.name",
        )


def quantized_with(settings: Any) -> str:
    """The quantization method of a model's files, as named in its config.json; "" for none."""
    found = getattr(settings, "quantization_config", None)
    if found is None:
        return ""
    values = found if isinstance(found, dict) else found.to_dict()
    by_flag = "bitsandbytes" if values.get("load_in_4bit") or values.get("load_in_8bit") else "unnamed"
    return str(values.get("quant_method", by_flag))


def check_weights(model: Any, loading: dict[str, Any], name: str) -> None:
    """Raise ModelError for missing weights. transformers only warns and initializes them at random.

    Args:
        model: as loaded.
        loading: what from_pretrained returned with output_loading_info.
        name: of the model.
    """
    if hasattr(model, "peft_config"):
        raise ModelError(
            f"{name!r} is a LoRA adapter: give its base model, or merge the adapter first (merge_and_unload) and save "
            "the result.",
            "model.name",
        )
    parameters = [parameter for parameter, _ in model.named_parameters()]
    missing = sorted(set(loading["missing_keys"]) & set(parameters))
    if missing:
        raise ModelError(
            f"The weights of {name!r} lack {len(missing)} of the model's {len(parameters)} parameters "
            f"({missing[0]}{', …' if len(missing) > 1 else ''}): give the complete model, including its language model head.",
            "model.name",
        )


def check_vocabulary(model: Any, tokenizer: Any, name: str) -> None:
    """Raise ModelError if the tokenizer has ids without an embedding in the model.

    Added tokens that the chat template does not use may lie beyond: some tokenizers have them for images.
    """
    size = getattr(model.config.get_text_config(), "vocab_size", None)
    used = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token}
    added, template = tokenizer.get_added_vocab(), str(tokenizer.chat_template or "")
    tokens = tokenizer.get_vocab().items()
    count = 1 + max((i for t, i in tokens if t not in added or t in used or t in template), default=-1)
    if size is not None and count > size:
        raise ModelError(
            f"The tokenizer of {name!r} has {count:,} tokens, but the model only {size:,}: use the tokenizer that "
            f"belongs to the model, or enlarge the model (resize_token_embeddings({count})) and save it.",
            "model.name",
        )


def transformers_version() -> str:
    """The installed version, from the package's metadata."""
    return importlib.metadata.version("transformers")
