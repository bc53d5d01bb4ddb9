"""The categories and the images that a COCO-format JSON lists: ids, names, files."""

import re
from collections import Counter
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from ...text import printable, repr_shortly
from .findings import Report

_LARGEST_ID = 2**53  # up to which evaluations hold an id exactly, as a floating-point number


def whole_number(value: Any) -> int | None:
    """An id as a whole number, of text or a float too; None where it is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, str) and len(value) <= 17:
        digits = value.strip()
        if digits.removeprefix("-").isdecimal():
            value = int(digits)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST_ID:
        return value
    return None


def take_id(entry: dict[str, Any], key: str, report: Report, **where: Any) -> int | None:
    """The whole number under ``key``, put there where it was text or a float; None if none."""
    given = entry.get(key)
    if type(given) is int and abs(given) < _LARGEST_ID:
        return given
    number = whole_number(given)
    if number is not None:
        report.add("id-as-text", f"{key} {repr_shortly(given)}", **where)
        entry[key] = number
    return number


def check_categories(entries: list[Any], report: Report) -> list[dict[str, Any]]:
    """The categories, each once and named, in the order of their ids."""
    report.categories = len(entries)
    if not entries:
        report.add("category-broken", "the list of categories is empty")
    kept: dict[int, dict[str, Any]] = {}
    for index, entry in enumerate(entries):
        identity = take_id(entry, "id", report) if isinstance(entry, dict) else None
        if identity is None:
            report.add("category-broken", f"the entry with index {index}")
            continue
        name = _category_name(entry.get("name"), identity)
        if name != entry.get("name"):
            entry["name"] = name
            report.add("category-unnamed", f"id {identity} is named {printable(name)}")
        if identity not in kept:
            kept[identity] = entry
            continue
        names = [printable(e["name"]) for e in (kept[identity], entry)]
        code = "category-repeated" if names[0] == names[1] else "category-conflict"
        report.add(code, f"id {identity}: {' and '.join(names)}")
    categories = [kept[identity] for identity in sorted(kept)]
    _tell_names_apart(categories, report)
    if list(kept) and sorted(kept) != list(range(1, len(kept) + 1)):
        report.add("category-ids-sparse", f"{len(kept)} ids from {min(kept)} to {max(kept)}")
    return categories


def _category_name(given: Any, identity: int) -> str:
    if given in (None, ""):
        return f"class_{identity}"
    if not isinstance(given, str):
        return repr_shortly(given)
    # A lone surrogate can be written neither to a log nor to TensorBoard.
    return given.encode(errors="backslashreplace").decode()


def _tell_names_apart(categories: list[dict[str, Any]], report: Report) -> None:
    counts = Counter(category["name"] for category in categories)
    for category in categories:
        if counts[name := category["name"]] > 1:
            category["name"] = f"{name} (id {category['id']})"
            report.add("category-name-repeated", printable(category["name"]))


def check_image_entries(
    entries: list[Any], report: Report
) -> tuple[list[dict[str, Any]], set[int]]:
    """The images that have an id and a file of their own within the image folder.

    Returns:
        The entries to go on with, and the ids of those left out.
    """
    report.images = len(entries)
    kept: dict[int, dict[str, Any]] = {}
    left_out: set[int] = set()
    for index, entry in enumerate(entries):
        identity = take_id(entry, "id", report) if isinstance(entry, dict) else None
        file = entry.get("file_name") if isinstance(entry, dict) else None
        if identity is None or not isinstance(file, str) or not file:
            report.add("image-broken", f"the entry with index {index}", image_id=identity)
            left_out |= set() if identity is None else {identity}
        elif (why := leaves_folder(file)) is not None:
            report.add("image-path", why, file=file, image_id=identity)
            left_out.add(identity)
        elif identity not in kept:
            kept[identity] = entry
        elif kept[identity]["file_name"] == file:
            report.add("image-repeated", file=file, image_id=identity)
        else:
            other = printable(kept[identity]["file_name"])
            report.add("image-conflict", f"{other} has it too", file=file, image_id=identity)
            left_out.add(identity)
    images = [entry for identity, entry in kept.items() if identity not in left_out]
    _note_files_and_ids(images, report)
    return images, left_out


def leaves_folder(file_name: str) -> str | None:
    """Why a ``file_name`` does not name a file within the image folder; None if it does.

    Links within the folder are followed: whoever made the folder made them, and not the JSON.
    """
    if "\0" in file_name:
        return "it has a null character"
    try:
        file_name.encode()
    except UnicodeEncodeError:
        return "it cannot be encoded as UTF-8"
    posix, windows = PurePosixPath(file_name), PureWindowsPath(file_name)
    if posix.is_absolute() or windows.drive or windows.root:
        return "it is an absolute path"
    if ".." in posix.parts or ".." in windows.parts:
        return "it has .. in it"
    return None


def why_missing(file_name: str) -> str:
    """What is to be said of a ``file_name`` that no file has."""
    if re.match(r"[a-z][a-z0-9+.-]*://|data:", file_name, re.IGNORECASE):
        return "a URL is not fetched: download the image, and give its file's name"
    if "\\" in file_name:
        return "written on Windows: replace \\ by /, but there is no such file either"
    return ""


def _note_files_and_ids(images: list[dict[str, Any]], report: Report) -> None:
    first: dict[str, int] = {}
    for entry in images:
        file, identity = entry["file_name"], entry["id"]
        if file in first:
            text = f"image {first[file]} is of it too"
            report.add("image-file-repeated", text, file=file, image_id=identity)
        first.setdefault(file, identity)
    ids = {entry["id"] for entry in images}
    if ids and (min(ids) != 1 or max(ids) != len(ids)):
        text = f"{len(ids):,} ids from {min(ids)} to {max(ids)}"
        report.add("image-ids-sparse", text)
