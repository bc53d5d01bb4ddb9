"""Pictures of attention over an image."""

import cv2
import numpy as np

# Pixels. Large enough to see what a map lies on, small enough for many in a TensorBoard file.
_LONG_SIDE = 256
_OPACITY = 0.6


def draw_maps(
    image: np.ndarray, maps: list[np.ndarray], point: tuple[float, float] | None = None
) -> np.ndarray:
    """The image under each map, side by side: dark where its weight is 0, yellow at its largest.

    Args:
        image: RGB uint8 ``(H, W, 3)``.
        maps: each ``(H, W)``, at least 0.
        point: x and y in the image, marked by a ring in the first.

    Returns:
        RGB uint8, the longer side of each 256 pixels.
    """
    scale = _LONG_SIDE / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, size, interpolation=how)
    panels = []
    for values in maps:
        shrunk = cv2.resize(values.astype(np.float32), size, interpolation=how)
        levels = (255 * shrunk / max(float(shrunk.max()), 1e-30)).round().astype(np.uint8)
        colors = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[:, :, ::-1]  # from BGR
        panels.append(cv2.addWeighted(small, 1 - _OPACITY, colors, _OPACITY, 0))
    if point is not None:
        centre = round(point[0] * scale), round(point[1] * scale)
        cv2.circle(panels[0], centre, 5, (0, 255, 255), 2, cv2.LINE_AA)
    return np.ascontiguousarray(np.concatenate(panels, axis=1))
