"""Reading an annotation file that nobody vouches for."""

import codecs
import json
import locale
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...text import printable
from .findings import NOTE, Report

# COCO's training annotations have 450 MB, and LVIS' 1.1 GB; checking takes about twelve times
# as much memory.
MAX_JSON_MB = 4096
# What is read here is read again by pycocotools, in the middle of a program: with so many calls
# less to go before Python's limit.
_SPARE_CALLS = 300


def read_json(
    json_file: str | Path, report: Report, max_mb: int = MAX_JSON_MB, annotated: bool = True
) -> dict[str, Any]:
    """The content of a COCO-format file, with lists of images, annotations and categories.

    Args:
        json_file: its path.
        report: gets what is wrong with it.
        max_mb: the largest size in MB of 10^6 bytes.
        annotated: whether they are needed; for evaluation they are not.

    Returns:
        The content; empty where there is an error. ``annotations`` is absent where the file has
        none and need not have any.
    """
    content = _parse(Path(json_file), report, max_mb)
    if report.has_errors:
        return {}
    if not isinstance(content, dict):
        report.add("json-format", f"it is not an object: {printable(json_file)}")
        return {}
    annotated = annotated and not report.evaluation
    if content.get("annotations") in (None, []) and not annotated:
        content.pop("annotations", None)
        if isinstance(content.get("images"), list):
            report.add("annotations-absent", kind=NOTE)
    for key in ("images", "annotations", "categories"):
        absent_by_right = key == "annotations" and not annotated and key not in content
        if not isinstance(content.get(key), list) and not absent_by_right:
            report.add("json-format", f"{printable(json_file)} has no list {key!r}")
    return {} if report.has_errors else content


def _parse(file: Path, report: Report, max_mb: int) -> Any:
    name = printable(str(file))
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            report.add("json-missing", f"{name} is not a file")
        elif status.st_size > max_mb * 10**6:
            size = f"{status.st_size / 1e6:,.0f} MB, more than {max_mb:,}"
            report.add("json-size", f"{name} has {size}")
        else:
            written = file.read_bytes()
            content = _with_calls_to_spare(_SPARE_CALLS, lambda: json.loads(written))
            _note_encoding(written, report)
            return content
    except FileNotFoundError:
        report.add("json-missing", f"there is no file {name}")
    except RecursionError:
        report.add("json-depth", f"{name} has lists in lists to a depth that cannot be read")
    except MemoryError:
        report.add("json-size", f"{name} does not fit into this machine's memory")
    except (ValueError, OSError) as error:
        report.add("json-unreadable", f"{name} cannot be read as JSON: {printable(str(error))}")
    return None


def _note_encoding(written: bytes, report: Report) -> None:
    """pycocotools opens the file as text, in the encoding that the system's language implies."""
    encoding = json.detect_encoding(written)
    theirs = locale.getpreferredencoding(False)
    if encoding != "utf-8":
        report.add("json-encoding", f"it is {encoding.replace('-sig', ' with a byte-order mark')}")
    elif codecs.lookup(theirs).name != "utf-8" and not written.isascii():
        report.add("json-encoding", f"it is {encoding}, and text is read here as {theirs}")


def _with_calls_to_spare(calls: int, parse: Callable[[], Any]) -> Any:
    return _with_calls_to_spare(calls - 1, parse) if calls else parse()
