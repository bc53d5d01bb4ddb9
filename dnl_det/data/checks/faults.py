"""Everything that a check of a data set can find, and what happens then."""

from dataclasses import dataclass

ERROR, REPAIRED, SKIPPED, NOTE = "error", "repaired", "skipped", "note"
KINDS = (ERROR, SKIPPED, REPAIRED, NOTE)  # in the order of a report


@dataclass(frozen=True)
class Fault:
    """One kind of finding.

    Attributes:
        kind: one of :data:`KINDS`, for data that are trained on.
        what: what is found.
        action: what happens, or what to do.
        kind_in_evaluation: for data that AP is computed on, where another.
        on_reading: the image is converted each time it is read; the annotations stay as they are.
    """

    kind: str
    what: str
    action: str
    kind_in_evaluation: str = ""
    on_reading: bool = False

    def kind_for(self, evaluation: bool) -> str:
        """The kind, by what the data are for."""
        return self.kind_in_evaluation if evaluation and self.kind_in_evaluation else self.kind


_FETCH = "fetch it again, or remove its entry"
_LEFT_OUT = f"the image is left out of a training; AP over fewer images is another AP, so {_FETCH}"
_OBJECT_LEFT_OUT = (
    "the annotation is left out of a training; AP over fewer objects is another AP, so correct or "
    "remove it"
)
_NO_MASK = "the mask is dropped"

FAULTS: dict[str, Fault] = {
    # the JSON
    "json-missing": Fault(ERROR, "the file or the image folder is not there", "correct the path"),
    "json-size": Fault(ERROR, "a JSON of absurd size", "raise DATASETS.MAX_JSON_MB if it is right"),
    "json-depth": Fault(ERROR, "a JSON of absurd depth", "write it as COCO does"),
    "json-unreadable": Fault(ERROR, "not JSON", "write or fetch the file again"),
    "json-encoding": Fault(
        REPAIRED,
        "a byte-order mark, or another encoding than text is read in here",
        "read as what it is, and written anew",
    ),
    "json-format": Fault(
        ERROR,
        "no object with the lists images, annotations, categories",
        "write it as COCO does",
    ),
    "annotations-absent": Fault(
        ERROR,
        "no annotations, as in COCO's test sets",
        "detections alone are written",
        NOTE,
    ),
    "images-none": Fault(ERROR, "no image, or none that can be used", "correct the images"),
    "images-mostly-unusable": Fault(
        ERROR, "more than half of the images cannot be used", "is it the right folder?"
    ),
    "annotations-none": Fault(
        ERROR, "no object besides crowds, or none that can be used", "correct the annotations"
    ),
    # categories
    "category-broken": Fault(ERROR, "a category without a whole number as its id", "give it one"),
    "category-conflict": Fault(ERROR, "one id for two categories", "give each an id"),
    "category-repeated": Fault(REPAIRED, "a category listed twice", "it is taken once"),
    "category-unnamed": Fault(
        REPAIRED,
        "a category without a name, or with one that is no text",
        "it is named by its id, or by the value in words",
    ),
    "category-name-repeated": Fault(
        REPAIRED, "one name for two categories", "the id is added to the names"
    ),
    "category-ids-sparse": Fault(
        NOTE, "category ids other than 1, 2, ...", "classes follow the ids' order; results have ids"
    ),
    "category-ids-shifted": Fault(
        ERROR,
        "annotations that count the categories from another number than their list",
        "give both the same ids; if they are right, remove the annotations of unknown ids",
    ),
    "category-unused": Fault(
        NOTE, "a category without an object", "it is never learnt; its AP is nan"
    ),
    "class-count": Fault(
        ERROR, "another number of categories than the config's classes", "set the key, or the data"
    ),
    "categories-differ": Fault(
        ERROR, "other categories than in the data set before it", "give both the same ids and names"
    ),
    "id-as-text": Fault(REPAIRED, 'an id such as "7" or 7.0', "it is read as the whole number"),
    # entries of images
    "image-broken": Fault(
        SKIPPED, "an entry without a whole-number id or a file_name", _LEFT_OUT, ERROR
    ),
    "image-conflict": Fault(SKIPPED, "one id for two files", _LEFT_OUT, ERROR),
    "image-repeated": Fault(REPAIRED, "an image listed twice", "it is taken once"),
    "image-file-repeated": Fault(
        NOTE, "one file under two ids", "each entry has its objects, which the other lacks"
    ),
    "image-ids-sparse": Fault(NOTE, "image ids other than 1, 2, ...", "nothing depends on them"),
    "image-unannotated": Fault(
        NOTE,
        "an image without an object",
        "left out of a training by DATALOADER.FILTER_EMPTY_ANNOTATIONS; counts in AP",
    ),
    "image-path": Fault(
        ERROR, "a file_name that leaves the image folder", "refused: name files within it"
    ),
    # image files
    "image-backslash": Fault(
        REPAIRED, "a file_name written on Windows", "\\ is replaced by /, where that file exists"
    ),
    "image-missing": Fault(SKIPPED, "no such file", _LEFT_OUT, ERROR),
    "image-zero-bytes": Fault(SKIPPED, "a file of 0 bytes", _LEFT_OUT, ERROR),
    "image-unreadable": Fault(
        SKIPPED, "no image, or of a format that is not read", _LEFT_OUT, ERROR
    ),
    "image-truncated": Fault(SKIPPED, "a file that ends early or is damaged", _LEFT_OUT, ERROR),
    "image-bomb": Fault(
        ERROR, "more pixels than Pillow's limit", "refused: remove it, or cut it into tiles"
    ),
    "image-size": Fault(
        SKIPPED, "another size than the JSON says, with objects in it", _LEFT_OUT, ERROR
    ),
    "image-size-taken": Fault(
        REPAIRED,
        "no size in the JSON, or a wrong one of an image without objects",
        "the file's is taken",
    ),
    "image-rotated": Fault(
        REPAIRED, "a rotation noted in EXIF or XMP", "turned upright as it is read", on_reading=True
    ),
    "image-grey": Fault(REPAIRED, "a grey image", "read as three equal channels", on_reading=True),
    "image-alpha": Fault(REPAIRED, "transparency", "dropped as it is read", on_reading=True),
    "image-cmyk": Fault(
        REPAIRED, "a CMYK, Lab or YCbCr image", "converted to RGB as it is read", on_reading=True
    ),
    "image-16-bit": Fault(
        REPAIRED, "16 bits a pixel", "the higher 8 are taken as it is read", on_reading=True
    ),
    # annotations
    "annotation-broken": Fault(
        SKIPPED,
        "no object, or without image_id or category_id",
        _OBJECT_LEFT_OUT,
        ERROR,
    ),
    "annotation-repeated": Fault(SKIPPED, "an annotation listed twice", "it is taken once"),
    "annotation-id": Fault(
        REPAIRED,
        "an id that is absent, repeated, or no whole number from 1 on",
        "a new one: pycocotools takes id 0 for no match, and AP would be wrong",
    ),
    "annotation-image-unknown": Fault(
        SKIPPED, "an image_id that no image has", "the annotation is left out"
    ),
    "annotation-image-skipped": Fault(
        SKIPPED, "an annotation of an image that is left out", "it is left out too"
    ),
    "annotation-category-unknown": Fault(
        SKIPPED, "a category_id that no category has", _OBJECT_LEFT_OUT, ERROR
    ),
    "crowd": Fault(NOTE, "a crowd", "not learnt; detections on it do not count"),
    "crowd-flag": Fault(REPAIRED, "iscrowd absent, or neither 0 nor 1", "0, or 1 where it is true"),
    "ignore-flag": Fault(
        REPAIRED, "ignore, which detectron2 refuses", "the annotation is taken as a crowd"
    ),
    "keypoints": Fault(
        REPAIRED, "keypoints that are not x, y, visibility of each", "they are dropped"
    ),
    "keypoints-absent": Fault(
        REPAIRED, "none, or another number of key points than the class has", "none is seen"
    ),
    "keypoints-count": Fault(
        REPAIRED, "num_keypoints absent, or not the number of those seen", "it is counted"
    ),
    "area": Fault(REPAIRED, "no area, or no number from 0 on", "that of the mask, or of the box"),
    "area-implausible": Fault(
        REPAIRED,
        "an area below half of the mask's, or above both its double and the box's",
        "that of the mask, or of the box",
    ),
    # boxes
    "box-broken": Fault(
        SKIPPED, "no box, or not four finite numbers", "the mask's, or left out without a mask"
    ),
    "box-degenerate": Fault(
        SKIPPED, "a box without width or height", "the mask's, or left out without a mask"
    ),
    "box-outside": Fault(
        SKIPPED, "a box beside the image", "the mask's, or left out without a mask"
    ),
    "box-over-edge": Fault(REPAIRED, "a box over the image's edge", "cut at the edge"),
    "box-unlike-mask": Fault(
        NOTE, "a box that shares less than half with its mask's", "is it x, y, width, height?"
    ),
    # masks
    "masks-none": Fault(ERROR, "no annotation has a mask", "set MODEL.MASK_ON False"),
    "mask-absent": Fault(
        SKIPPED, "a box without a mask", "taken as a crowd: not learnt, detections do not count"
    ),
    "mask-broken": Fault(REPAIRED, "neither polygons nor RLE", _NO_MASK),
    "mask-rle": Fault(
        REPAIRED, "RLE of an object", "INPUT.MASK_FORMAT becomes bitmask", on_reading=True
    ),
    "rle-broken": Fault(REPAIRED, "RLE that does not fit the image's size", _NO_MASK),
    "rle-empty": Fault(REPAIRED, "RLE without a pixel", _NO_MASK),
    "polygon-flat": Fault(REPAIRED, "one list of numbers", "taken as one polygon"),
    "polygon-broken": Fault(
        REPAIRED, "fewer than 3 corners, an odd count, or no finite numbers", "dropped"
    ),
    "polygon-degenerate": Fault(REPAIRED, "a polygon without area", "dropped"),
    "polygon-outside": Fault(
        REPAIRED, "a polygon beside the image, or of absurd coordinates", "dropped"
    ),
    "polygon-over-edge": Fault(NOTE, "a polygon over the image's edge", "only its inside counts"),
    "polygon-crossing": Fault(NOTE, "a polygon that crosses itself", "filled by pycocotools' rule"),
}
