"""Annotation files that cannot be read, or that nobody should read."""

import json
import locale
import os
import sys

import pytest
from faulty import check, codes, only

from dnl_det.data.checks import Use, checked


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "json-unreadable"),
        (b'{"images": [', "json-unreadable"),
        (b"\xff\xfe\x00", "json-unreadable"),
        (b'{"images": ' + b"9" * 5000 + b"}", "json-unreadable"),
        (b"[" * 100_000 + b"]" * 100_000, "json-depth"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "json-depth"),
        # Less deep than Python's limit, but read again from deeper within detectron2. From Python
        # 3.12 on, C code has a limit of its own, wherever it is called.
        pytest.param(
            b'{"info": ' + b"[" * 900 + b"]" * 900 + b"}",
            "json-depth",
            marks=pytest.mark.skipif(sys.version_info >= (3, 12), reason="needs Python < 3.12"),
        ),
        (b"[]", "json-format"),
        (b"null", "json-format"),
        (b"{}", "json-format"),
        (b'{"images": {}, "annotations": [], "categories": []}', "json-format"),
        (b'{"images": [], "annotations": []}', "json-format"),
    ],
)
def test_an_unreadable_json_is_an_error(data, content, code):
    data.json.write_bytes(content)
    found = checked("mine", data.json, data.images, Use())
    assert set(codes(found)) == {code}
    assert "annotations.json" in found.report.text()


def test_a_json_of_absurd_size_is_not_read(data, monkeypatch):
    data.write()
    with data.json.open("r+b") as file:
        file.truncate(10**10)  # a sparse file: it takes no room
    found = checked("mine", data.json, data.images, Use())
    assert codes(found) == {"json-size": 1}
    assert "10,000 MB, more than 4,096" in found.report.text()


def test_a_json_that_is_no_file_is_not_waited_for(data, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "gone"):
        found = checked("mine", path, data.images, Use())
        assert codes(found) == {"json-missing": 1}
    found = checked("mine", data.write(), tmp_path / "gone", Use())
    assert "json-missing" in codes(found, "error")


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-8-sig", "utf-8 with a byte-order mark"),
        ("utf-16", "utf-16"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
    ],
)
def test_other_encodings_are_read_and_written_anew(data, encoding, name):
    data.content["categories"][0]["name"] = "Kätzchen 猫"
    sound = check(data).content
    data.encoding = encoding
    for evaluation in (False, True):
        found = check(data, evaluation=evaluation)
        assert codes(found) == {"json-encoding": 1}
        assert only(found, "json-encoding").detail == f"it is {name}"
        assert found.report.changes_annotations
        assert found.content == sound


def test_a_system_that_reads_text_otherwise_gets_it_written_anew(data, monkeypatch):
    monkeypatch.setattr(locale, "getpreferredencoding", lambda _: "cp1252")
    assert codes(check(data)) == {}  # plain ASCII is the same to both
    data.json.write_text(json.dumps(data.content | {"info": "Kätzchen"}, ensure_ascii=False))
    found = checked("mine", data.json, data.images, Use())
    assert codes(found) == {"json-encoding": 1}
    assert "text is read here as cp1252" in found.report.text()
