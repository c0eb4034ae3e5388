"""Dataset formats: which columns are read, and how one row becomes text with the learnt parts marked.

| format               | a row                                  | learnt                 |
|----------------------|----------------------------------------|------------------------|
| PlainText            | one text                               | all of it              |
| PromptCompletion     | prompt, line break, completion         | the completion         |
| PromptCompletionChat | the same as turns of a conversation    | the completion         |
| Conversation         | turns through the chat template        | the assistant's turns  |

To add a format, write a class with the members of `Format` and let `recognise` return it.
"""

from geko_engine.data.formats.base import Format, Rendering, Row, Segment, Turn, UnusableRow
from geko_engine.data.formats.chat_template import PLAIN_TEMPLATE
from geko_engine.data.formats.conversation import Conversation, PromptCompletionChat
from geko_engine.data.formats.recognition import column_names, format_as_configured, recognise
from geko_engine.data.formats.text import PlainText, PromptCompletion

__all__ = [
    "PLAIN_TEMPLATE",
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
    "column_names",
    "format_as_configured",
    "recognise",
]
