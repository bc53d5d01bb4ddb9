"""Lists of images, categories and annotations, and their ids."""

import os

import pytest
from faulty import check, codes, only


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../annotations.json",
        "sub/../../annotations.json",
        "..\\annotations.json",
        "C:\\windows\\win.ini",
        "\\etc\\passwd",
        "\\\\server\\share\\2.png",
        "2.png\0.jpg",
        "\ud800.png",
    ],
)
def test_paths_out_of_the_folder_are_refused(data, name, monkeypatch):
    data.entries[1]["file_name"] = name
    opened = []
    real = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: opened.append(str(path)) or real(path))
    found = check(data)
    assert codes(found, "error") == {"image-path": 1}
    assert only(found, "image-path").image_id == 2
    assert len(opened) == 3
    assert all(path.startswith(str(data.images)) for path in opened)


def test_a_link_within_the_folder_is_followed(data, tmp_path):
    data.file(2).rename(tmp_path / "elsewhere.png")
    data.file(2).symlink_to(tmp_path / "elsewhere.png")
    assert not check(data).report.findings


def test_control_characters_do_not_reach_the_terminal(data):
    data.entries[1]["file_name"] = "\x1b[2Jgone\n" + "x" * 5000
    text = check(data).report.text()
    assert "\\x1b[2Jgone\\n" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 1000
    text.encode()


def test_a_name_written_on_windows_is_found(data):
    (data.images / "sub").mkdir()
    data.file(2).rename(data.images / "sub" / "2.png")
    data.entries[1]["file_name"] = "sub\\2.png"
    for evaluation in (False, True):
        found = check(data, evaluation=evaluation)
        assert codes(found) == {"image-backslash": 1}
        assert only(found, "image-backslash").file == "sub/2.png"
        assert found.content["images"][1]["file_name"] == "sub/2.png"
        assert found.report.changes_annotations


@pytest.mark.skipif(os.name == "nt", reason="there a backslash is no part of a name")
def test_a_backslash_in_a_file_s_own_name_stays(data):
    data.file(2).rename(data.images / "sub\\2.png")
    data.entries[1]["file_name"] = "sub\\2.png"
    assert codes(check(data)) == {}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("sub\\2.png", "written on Windows: replace"),
        ("https://example.org/2.png", "a URL is not fetched"),
        ("S3://bucket/2.png", "a URL is not fetched"),
        ("data:image/png;base64," + 500 * "A", "a URL is not fetched"),
        ("sub/2.png", ""),
    ],
)
def test_a_name_without_a_file_says_what_it_is(data, name, why):
    data.entries[1]["file_name"] = name
    found = check(data, evaluation=True)
    assert codes(found, "error") == {"image-missing": 1}
    assert only(found, "image-missing").detail.startswith(why)
    assert bool(only(found, "image-missing").detail) == bool(why)


def test_empty_lists(data):
    data.content.update(images=[], annotations=[], categories=[])
    assert set(codes(check(data), "error")) == {
        "images-none",
        "annotations-none",
        "category-broken",
    }


def test_no_annotations_at_all(data):
    data.content["annotations"] = []
    assert codes(check(data), "error") == {"annotations-none": 1}
    del data.content["annotations"]
    assert codes(check(data), "error") == {"json-format": 1}
    for nothing in ({}, {"annotations": []}, {"annotations": None}):
        data.content.update(nothing)
        found = check(data, evaluation=True)
        assert codes(found, "note") == {"annotations-absent": 1}
        assert not found.report.has_errors


def test_crowds_alone_are_no_annotations(data):
    for entry in data.annotations:
        entry["iscrowd"] = 1
    assert codes(check(data), "error") == {"annotations-none": 1}


def test_sparse_ids_are_notes(data):
    for entry in data.content["categories"]:
        entry["id"] *= 10
    for entry in data.entries:
        entry["id"] += 100
    for entry in data.annotations:
        entry["category_id"] *= 10
        entry["image_id"] += 100
    found = check(data)
    assert codes(found) == {}
    assert codes(found, "note") == {"category-ids-sparse": 1, "image-ids-sparse": 1}


def test_ids_as_text_are_read(data):
    data.content["categories"][0]["id"] = "1"
    data.entries[1]["id"] = " 2"
    data.annotations[2].update(image_id="2", category_id=1.0, id="3")
    found = check(data)
    assert codes(found) == {"id-as-text": 5}
    assert found.categories == [(1, "cat"), (2, "dog")]
    assert [i["id"] for i in found.content["images"]] == [1, 2, 3, 4]
    assert [a["id"] for a in found.content["annotations"]] == list(range(1, 9))
    assert {type(a["image_id"]) for a in found.content["annotations"]} == {int}


@pytest.mark.parametrize("bad", [None, "one", True, 2**60, 1.5, [1], {"a": 1}])
def test_ids_that_are_no_whole_numbers(data, bad):
    data.entries[1]["id"] = bad
    data.annotations[4]["image_id"] = bad
    data.annotations[6]["category_id"] = bad
    data.annotations[7]["id"] = bad
    found = check(data)
    assert codes(found) == {
        "image-broken": 1,
        "annotation-broken": 2,
        "annotation-image-unknown": 2,
        "annotation-id": 1,
    }
    assert len(found.content["annotations"]) == 4
    data.content["categories"][0]["id"] = bad
    assert codes(check(data), "error") == {"category-broken": 1}


def test_unknown_ids(data):
    data.annotations[0]["image_id"] = 99
    data.annotations[1]["category_id"] = 0
    found = check(data)
    assert codes(found) == {"annotation-image-unknown": 1, "annotation-category-unknown": 1}
    assert only(found, "annotation-image-unknown").annotation_id == 1
    assert only(found, "annotation-category-unknown").annotation_id == 2


@pytest.mark.parametrize(
    ("listed", "used", "how"),
    [
        ([1, 2, 3], [0, 1, 2], "one less than"),
        ([1, 2, 3], [0, 0, 1], "one less than"),
        ([1], [0], "one less than"),
        ([7, 8, 9], [6, 7, 8], "one less than"),
        ([0, 1, 2], [1, 2, 3], "one more than"),
        ([1, 3, 8, 9], [0, 2, 3, 1], "counted from 0 beside"),
        ([0, 5, 8, 9], [1, 4, 3, 2], "counted from 1 beside"),
    ],
)
@pytest.mark.parametrize("evaluation", [False, True])
def test_ids_that_are_counted_from_another_number_are_an_error(data, listed, used, how, evaluation):
    categories = [{"id": k, "name": f"class {k}"} for k in listed]
    data.content["categories"] = categories
    for index, entry in enumerate(data.annotations):
        entry["category_id"] = used[index % len(used)]
    found = check(data, evaluation=evaluation)
    assert codes(found, "error")["category-ids-shifted"] == 1
    numbers = f"category_id {min(used)} to {max(used)}, {how} the categories' ids {listed[0]} to"
    assert only(found, "category-ids-shifted").detail == f"{numbers} {listed[-1]}"
    categories.insert(0, {"id": 100, "name": "another"})  # which nothing counts
    for entry in data.annotations:
        entry["category_id"] = listed[0]
    assert "category-ids-shifted" not in codes(check(data, evaluation=evaluation))


def test_an_unknown_category_beside_all_others_is_left_out_of_a_training_alone(data):
    data.add(category_id=0)
    assert codes(check(data)) == {"annotation-category-unknown": 1}
    assert codes(check(data), "error") == {}
    assert codes(check(data, evaluation=True), "error") == {"annotation-category-unknown": 1}


def test_repeated_categories(data):
    categories = data.content["categories"]
    categories.append(dict(categories[0]))
    found = check(data)
    assert codes(found) == {"category-repeated": 1}
    assert found.categories == [(1, "cat"), (2, "dog")]
    categories[-1]["name"] = "cow"
    assert codes(check(data), "error") == {"category-conflict": 1}


def test_category_names(data):
    data.content["categories"] += [{"id": 3, "name": "dog"}, {"id": 4}, {"id": 5, "name": 7}]
    data.content["categories"] += [
        {"id": 6, "name": "\ud83d cat"},
        {"id": 7, "name": "\U0001f600\n"},
    ]
    found = check(data)
    assert codes(found) == {"category-unnamed": 3, "category-name-repeated": 2}
    assert codes(found, "note") == {"category-unused": 5}
    names = [name for _, name in found.categories]
    assert names[:5] == ["cat", "dog (id 2)", "dog (id 3)", "class_4", "7"]
    assert names[5:] == [r"\ud83d cat", "\U0001f600\n"]


def test_repeated_images(data):
    data.entries.append(dict(data.entries[0]))
    found = check(data)
    assert codes(found) == {"image-repeated": 1}
    assert len(found.content["images"]) == 4
    data.entries[-1]["file_name"] = "2.png"
    found = check(data)
    assert codes(found) == {"image-conflict": 1, "annotation-image-skipped": 2}
    assert [image["id"] for image in found.content["images"]] == [2, 3, 4]
    assert codes(check(data, evaluation=True), "error") == {"image-conflict": 1}


def test_one_file_twice(data):
    data.entries[1]["file_name"] = "1.png"
    found = check(data)
    assert codes(found, "note") == {"image-file-repeated": 1}
    assert "image 1 is of it too" in found.report.text()


@pytest.mark.parametrize(
    "entry", [None, 7, [], {"id": 9}, {"file_name": "x"}, {"id": 9, "file_name": 3}]
)
def test_broken_image_entries(data, entry):
    data.entries.append(entry)
    assert codes(check(data)) == {"image-broken": 1}
    assert codes(check(data, evaluation=True), "error") == {"image-broken": 1}
    data.add(image_id=9)
    code = "skipped" if isinstance(entry, dict) and "id" in entry else "unknown"
    assert codes(check(data)) == {"image-broken": 1, f"annotation-image-{code}": 1}


@pytest.mark.parametrize("entry", [None, 7, [], {}, {"id": 9, "image_id": 1}])
def test_broken_annotations(data, entry):
    data.annotations.append(entry)
    assert codes(check(data, evaluation=True), "error") == {"annotation-broken": 1}
    found = check(data)
    assert codes(found) == {"annotation-broken": 1}
    assert len(found.content["annotations"]) == 8


def test_annotation_ids(data):
    ids = [0, -4, 5, 5, None, "x", 2**70, 8]
    for entry, identity in zip(data.annotations, ids, strict=True):
        entry["id"] = identity
    found = check(data)
    assert codes(found) == {"annotation-id": 6}
    assert [a["id"] for a in found.content["annotations"]] == [9, 10, 5, 11, 12, 13, 14, 8]


def test_an_annotation_twice_is_taken_once(data):
    data.annotations.append(dict(data.annotations[0]))
    found = check(data)
    assert codes(found) == {"annotation-repeated": 1}
    assert len(found.content["annotations"]) == 8
