"""The encoding of a text file: UTF-8 if it is that, else the likeliest one of its bytes. Knows no row.

Spreadsheet programs still write CSV files in the encoding of the computer's language.
"""

from __future__ import annotations

import codecs
from typing import IO

UTF_8 = "utf-8-sig"
MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
SCANNED = 64_000_000  # bytes; what comes later in another encoding is an error while it is read
BLOCK = 1 << 20
SAMPLE = 20_000  # bytes of lines with other letters than those of ASCII
CONTROLS = bytes(set(range(32)) - {9, 10, 11, 12, 13, 26, 27})  # no text has these in an encoding of one byte a letter
NAMES = {
    "cp1252": "Windows-1252 (Western Europe)",
    "cp1250": "Windows-1250 (Central Europe)",
    "cp1251": "Windows-1251 (Cyrillic)",
    "cp1253": "Windows-1253 (Greek)",
    "cp1254": "Windows-1254 (Turkish)",
    "cp932": "Shift JIS (Japanese)",
    "gb18030": "GB 18030 (Chinese)",
    "big5": "Big5 (Chinese)",
    "cp949": "Windows-949 (Korean)",
    "utf-16": "UTF-16",
}


def encoding_of(file: IO[bytes]) -> str | None:
    """The encoding of the text in `file`, which is read from its beginning.

    Returns:
        UTF_8, a key of NAMES, or None where it is no text or its encoding is not clear.
    """
    decoder, sample, rest = codecs.getincrementaldecoder("utf-8")(), b"", SCANNED
    is_utf_8 = True
    while rest and is_utf_8:
        block = file.read(min(BLOCK, rest))
        if rest == SCANNED and (marked := _marked(block)):
            return marked
        if len(sample) < SAMPLE:
            sample += b"\n".join(line for line in block.splitlines() if not line.isascii())
        is_utf_8 = _continues(decoder, block)
        rest = rest - len(block) if block else 0
    if sample.translate(None, CONTROLS) != sample:
        return None
    return UTF_8 if is_utf_8 else _likeliest(sample[:SAMPLE])


def _continues(decoder: codecs.IncrementalDecoder, block: bytes) -> bool:
    """Whether `block`, or the end of the file where it is empty, goes on with what the decoder has read."""
    try:
        decoder.decode(block, final=not block)
    except UnicodeDecodeError:
        return False
    return True


def _marked(block: bytes) -> str | None:
    return next((name for mark, name in MARKS if block.startswith(mark)), None)


def _likeliest(sample: bytes) -> str | None:
    """The encoding in which `sample` reads best."""
    from charset_normalizer import from_bytes

    if sample.decode("cp1252", "replace") == sample.decode("cp1250", "replace"):  # a few umlauts: nothing to guess
        return "cp1252"
    found = list(from_bytes(sample, cp_isolation=[name for name in NAMES if name != "utf-16"], threshold=0.3))
    for western in (match for match in found if match.encoding == "cp1252"):
        if western.chaos <= found[0].chaos and western.coherence >= found[0].coherence:
            return "cp1252"  # reads no worse than the first
    return found[0].encoding if found else None
