"""Dataset formats: which columns are read, and how one row becomes text with the learnt parts marked.

| format               | a row                                               | learnt                 |
|----------------------|-----------------------------------------------------|------------------------|
| PlainText            | one text                                            | all of it              |
| PromptCompletion     | prompt, line break, completion (or the class label) | the completion         |
| PromptCompletionChat | the same as turns of a conversation                 | the completion         |
| Conversation         | turns through the chat template                     | the assistant's turns  |

Preference data (chosen and rejected answers, answers marked good or bad) are recognised and refused. To add a format, write a class with the members of `Format` and let `recognise` return it.
"""

from geko_engine.data.formats.base import Format, Rendering, Row, Segment, Turn, UnusableRow
from geko_engine.data.formats.cells import restore_integers
from geko_engine.data.formats.chat_template import ChatTemplate
from geko_engine.data.formats.columns import Beside
from geko_engine.data.formats.conversation import EMPTY, Conversation, PromptCompletionChat
from geko_engine.data.formats.own_templates import (
    PLAIN_TEMPLATE,
    TEMPLATES,
    begin_with_bos,
    brings_template,
    give_template,
)
from geko_engine.data.formats.recognition import (
    column_names,
    format_as_configured,
    guess_note,
    recognise,
    recognise_evaluation,
)
from geko_engine.data.formats.text import PlainText, PromptCompletion

__all__ = [
    "EMPTY",
    "PLAIN_TEMPLATE",
    "TEMPLATES",
    "Beside",
    "ChatTemplate",
    "Conversation",
    "Format",
    "PlainText",
    "PromptCompletion",
    "PromptCompletionChat",
    "Rendering",
    "Row",
    "Segment",
    "Turn",
    "UnusableRow",
    "begin_with_bos",
    "brings_template",
    "column_names",
    "format_as_configured",
    "give_template",
    "guess_note",
    "recognise",
    "recognise_evaluation",
    "restore_integers",
]
