"""Chat templates for tokenizers that bring none, or another than the user wants; saved with the model."""

from __future__ import annotations

import weakref
from typing import Any

from geko_engine.data.formats.chat_template import ChatTemplate

# They need no special token but the end of sequence.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}Assistant: {{ message['content'] }}{{ eos_token }}\n"
    "{% else %}{{ message['role'].capitalize() }}: {{ message['content'] }}\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
ALPACA_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'assistant' %}### Response:\n{{ message['content'] }}{{ eos_token }}\n\n"
    "{% else %}### Instruction:\n{{ message['content'] }}\n\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}### Response:\n{% endif %}"
)
CHATML_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}<|im_end|>{% endif %}{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {"plain": PLAIN_TEMPLATE, "alpaca": ALPACA_TEMPLATE, "chatml": CHATML_TEMPLATE}
CHATML_END = "<|im_end|>"
_GIVEN: weakref.WeakSet[Any] = weakref.WeakSet()


def brings_template(tokenizer: Any) -> bool:
    """Whether the tokenizer came with a chat template of its own."""
    return bool(getattr(tokenizer, "chat_template", None)) and tokenizer not in _GIVEN


def give_template(tokenizer: Any, name: str) -> None:
    """Give the tokenizer one of GEKO's templates.

    Args:
        tokenizer: is changed.
        name: a key of TEMPLATES.
    """
    template = TEMPLATES[name]
    if name == "chatml" and CHATML_END in tokenizer.get_vocab():
        template = template.replace("{{ eos_token }}", CHATML_END)
    if not brings_template(tokenizer):
        _GIVEN.add(tokenizer)
    tokenizer.chat_template = template


def begin_with_bos(tokenizer: Any) -> bool:
    """Let the chat template begin with the token that the tokenizer begins every text with; False where it does already.

    Without it a conversation would begin otherwise than every text that a base model has read.
    """
    bos = tokenizer.bos_token
    if not bos or tokenizer("a", verbose=False)["input_ids"][:1] != [tokenizer.bos_token_id]:
        return False
    begun = ChatTemplate.of(tokenizer).beginning
    if not begun or begun.startswith(bos) or isinstance(tokenizer.chat_template, dict):
        return False
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    return True
