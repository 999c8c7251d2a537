"""Text files as they come: plain or gzipped, in whatever encoding; what cannot be read is named by its line."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tunesmith.errors import DataError

BLOCK = 1 << 20
SAMPLE = 256 << 10
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What people's spreadsheets and editors write, the commonest first: it wins a tie. Guessing among every codec that
# Python has finds too many that fit by chance.
CANDIDATES = ["cp1252", "gb18030", "cp932", "cp949", "euc_jp", "big5", "cp1251", "cp1250", "cp1254", "cp1253", "koi8_r"]
SAVE_AS_UTF8 = "save the file as UTF-8 and try again"


def has_extension(source: object, extensions: tuple[str, ...]) -> bool:
    """Whether `source` is an existing file with one of these extensions, in any case."""
    return isinstance(source, (str, Path)) and Path(source).is_file() and str(source).lower().endswith(extensions)


def open_text(path: Path, encoding: str) -> IO[str]:
    """The file's text with its line ends untouched."""
    return io.TextIOWrapper(_open(path), encoding=encoding, newline="")


def encoding_of(path: Path) -> tuple[str, tuple[str, ...]]:
    """The encoding in which the whole file can be read, and a note where it had to be guessed.

    A byte order mark decides; else UTF-8 if every byte fits; else the likeliest of `CANDIDATES`. A file that is
    UTF-8 but for a few broken bytes is an error, because another encoding would turn its good letters into noise.
    """
    try:
        with _open(path) as file:
            head = file.read(4)
        named = next((name for mark, name in BOMS if head.startswith(mark)), "")
        if "16" not in named and "32" not in named:
            _refuse_nul(path)
        if _decodes(path, named or "utf-8"):
            return named or "utf-8", ()
        if not named:
            return _guess(path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"the compressed file is damaged or cut short ({error})",
            where=path.name,
            remedy="copy or download it again",
        ) from error
    raise DataError(
        f"the file begins as {named} and holds bytes that are not",
        where=_place(path, "utf-8") if "8" in named else path.name,
        remedy=SAVE_AS_UTF8,
    )


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb")  # type: ignore[return-value]


def _blocks(path: Path) -> Iterator[bytes]:
    with _open(path) as file:
        while block := file.read(BLOCK):
            yield block


def _refuse_nul(path: Path) -> None:
    num_lines = 1
    for block in _blocks(path):
        if (found := block.find(b"\0")) >= 0:
            line = num_lines + block.count(b"\n", 0, found)
            raise DataError(
                "there is a NUL byte, so this is UTF-16 without a mark, or not a text file",
                where=f"{path.name}, line {line}",
                remedy=SAVE_AS_UTF8,
            )
        num_lines += block.count(b"\n")


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    try:
        for block in _blocks(path):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _guess(path: Path) -> tuple[str, tuple[str, ...]]:
    sample = _telling_lines(path)
    read = sample.decode("utf-8", errors="replace")
    broken = read.count("\ufffd")
    if sum(not letter.isascii() for letter in read) - broken < broken:
        for encoding in _likeliest(sample):
            if _decodes(path, encoding):
                note = f"{path.name} is not UTF-8 and was read as {encoding}; if letters look wrong, {SAVE_AS_UTF8}"
                return encoding, (note,)
    raise DataError("there are bytes that are not UTF-8", where=_place(path, "utf-8"), remedy=SAVE_AS_UTF8)


def _likeliest(sample: bytes) -> list[str]:
    from charset_normalizer import from_bytes

    ranks = {
        encoding: (match.chaos, -match.coherence, CANDIDATES.index(encoding))
        for match in from_bytes(sample, cp_isolation=CANDIDATES)
        for encoding in {match.encoding, *match.could_be_from_charset} & set(CANDIDATES)
    }
    return sorted(ranks, key=lambda encoding: ranks[encoding])


def _telling_lines(path: Path) -> bytes:
    """Up to `SAMPLE` bytes of the lines that are not plain ASCII: only they tell encodings apart."""
    lines: list[bytes] = []
    num_bytes = 0
    with _open(path) as file:
        for line in file:
            if not line.isascii():
                lines.append(line)
                num_bytes += len(line)
            if num_bytes > SAMPLE:
                break
    return b"".join(lines)


def _place(path: Path, encoding: str) -> str:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError:
                return f"{path.name}, line {number}"
    return path.name
