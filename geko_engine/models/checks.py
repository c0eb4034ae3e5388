"""What can be wrong with a model that is to be fine-tuned, and the sentence for each. Loads nothing; knows no data."""

from __future__ import annotations

import importlib.metadata
import re
from typing import Any

from geko_engine.config.sections import ModelConfig
from geko_engine.exceptions import GekoError, ModelError
from geko_engine.hub.client import hub_error

# Part of what a library says on loading -> what is told instead; {name} is the model's, {said} the first line.
SENTENCES: tuple[tuple[str, str], ...] = (
    (
        "does not recognize this architecture",
        "The model {name!r} is of a type that transformers {version} does not know ({type}): install a newer "
        "transformers, or switch on trust_remote_code if the model brings its own code.",
    ),
    ("Unrecognized model in", "The config.json of {name!r} names no model_type: give the folder of a whole model."),
    (
        "Unrecognized configuration class",
        "The model {name!r} is no causal language model ({type}), so it cannot write a text on: give one that can.",
    ),
    (
        "have a file named config.json",
        "{name!r} holds no config.json, so it is no whole model: give the model itself, not an adapter or a GGUF file.",
    ),
    ("not a valid JSON file", "The config.json of {name!r} is damaged: download the model again."),
    (
        "o file named model.safetensors",
        "{name!r} has a config.json but no weights (model.safetensors or pytorch_model.bin): give the whole model.",
    ),
    ("have a file named pytorch_model.bin", "{name!r} has a config.json but no weights: give the whole model."),
    ("No such file or directory", "A file of the model {name!r} is missing ({said}): download the model again."),
    ("SafetensorError", "The weights of {name!r} are damaged or cut off ({said}): download the model again."),
    ("PytorchStreamReader", "The weights of {name!r} are damaged or cut off: download the model again."),
    ("UnpicklingError", "The weights of {name!r} are damaged or cut off: download the model again."),
    (
        "ignore_mismatched_sizes",
        "The weights of {name!r} have other sizes than its config.json says: one of them is another model's.",
    ),
    (
        "instantiate the backend tokenizer",
        "The tokenizer of {name!r} cannot be built: its folder needs a tokenizer.json; where it has only a "
        "tokenizer.model, install sentencepiece or tiktoken.",
    ),
    ("JSONDecodeError", "The tokenizer of {name!r} is damaged ({said}): download the model again."),
    (
        "requires the following packages",
        "The model {name!r} brings code that needs other packages: {said}",
    ),
)


def loading_error(error: Exception, config: ModelConfig, *, reached: bool = True) -> GekoError:
    """What a library said on loading a model, as one sentence; `reached`: whether the Hub answered at the beginning."""
    text = f"{type(error).__name__} {error}"
    if "trust_remote_code=True" in text:
        return ModelError(
            f"The model {config.name!r} brings its own Python code: switch on trust_remote_code if you trust its author.",
            "model.trust_remote_code",
        )
    said = (str(error).splitlines() or [""])[0]
    for part, sentence in SENTENCES:
        if part in text:
            version, kind = transformers_version(), re.search(r"model type `(.+?)`|\.(\w+Config)'>", text)
            named = next(filter(None, kind.groups())) if kind else "unnamed"
            return ModelError(sentence.format(name=config.name, said=said, version=version, type=named), "model.name")
    if config.trust_remote_code and isinstance(error, AttributeError | ImportError | NameError | TypeError):
        return ModelError(
            f"The code that the model {config.name!r} brings does not run here ({type(error).__name__}: {said}): it was "
            f"written for another transformers than {transformers_version()}; give a model of the same family without "
            "own code.",
            "model.name",
        )
    return hub_error(error, config.name, "model", config.revision, reached=reached)


def check_kind(settings: Any, name: str) -> None:
    """Raise ModelError for what loads without a word but cannot be fine-tuned."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if settings.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(settings, "is_decoder", False):
        raise ModelError(
            f"The model {name!r} is no causal language model ({settings.model_type}): it fills gaps and sees the words "
            "that it should predict. Give one that writes a text on.",
            "model.name",
        )
    method = quantized_with(settings)
    if method not in ("", "bitsandbytes"):
        raise ModelError(
            f"The weights of {name!r} are quantised already ({method}), and those cannot be trained on: give the "
            "original model.",
            "model.name",
        )


def quantized_with(settings: Any) -> str:
    """The method that the files of a model are quantised with, as its config.json names it; "" for none."""
    found = getattr(settings, "quantization_config", None)
    if found is None:
        return ""
    values = found if isinstance(found, dict) else found.to_dict()
    by_flag = "bitsandbytes" if values.get("load_in_4bit") or values.get("load_in_8bit") else "unnamed"
    return str(values.get("quant_method", by_flag))


def check_weights(model: Any, loading: dict[str, Any], name: str) -> None:
    """Raise ModelError where transformers only warns: parameters that were in no file are random now."""
    if hasattr(model, "peft_config"):
        raise ModelError(
            f"{name!r} holds a LoRA adapter: give its base model, or merge the adapter first (merge_and_unload) and "
            "save that.",
            "model.name",
        )
    parameters = [parameter for parameter, _ in model.named_parameters()]
    missing = sorted(set(loading["missing_keys"]) & set(parameters))
    if missing:
        raise ModelError(
            f"The weights of {name!r} lack {len(missing)} of the model's {len(parameters)} parameters "
            f"({missing[0]}{', …' if len(missing) > 1 else ''}): give the whole model, its language-model head included.",
            "model.name",
        )


def check_vocabulary(model: Any, tokenizer: Any, name: str) -> None:
    """Raise ModelError when the tokenizer can give ids that the model has no embedding for.

    Added tokens that no chat template uses may lie beyond: some models' tokenizers hold them for pictures.
    """
    size = getattr(model.config.get_text_config(), "vocab_size", None)
    used = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token}
    added, template = tokenizer.get_added_vocab(), str(tokenizer.chat_template or "")
    tokens = tokenizer.get_vocab().items()
    count = 1 + max((i for t, i in tokens if t not in added or t in used or t in template), default=-1)
    if size is not None and count > size:
        raise ModelError(
            f"The tokenizer of {name!r} has {count:,} tokens and the model only {size:,}: give the tokenizer that "
            f"belongs to it, or enlarge the model first (resize_token_embeddings({count})) and save it.",
            "model.name",
        )


def transformers_version() -> str:
    """As in the package's metadata."""
    return importlib.metadata.version("transformers")
