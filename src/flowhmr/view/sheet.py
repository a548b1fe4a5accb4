"""Sheets of pictures, and flow as colours."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor


def contact_sheet(
    rows: list[list[UInt8[np.ndarray, "_ _ 3"]]], titles: list[str], tile_px: int = 260
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Rows of pictures, each row under its title; pictures are fitted into square tiles."""
    if len(rows) != len(titles) or not rows or not all(rows):
        raise ValueError(f"got {len(rows)} rows and {len(titles)} titles; expected one for each")
    columns = max(len(r) for r in rows)
    bands = []
    for row, title in zip(rows, titles):
        tiles = [_tile(picture, tile_px) for picture in row]
        tiles += [np.full((tile_px, tile_px, 3), 255, np.uint8)] * (columns - len(tiles))
        bands.append(caption(np.concatenate(tiles, 1), title))
    return np.concatenate(bands)


def caption(image: UInt8[np.ndarray, "h w 3"], text: str) -> UInt8[np.ndarray, "h2 w 3"]:
    """The image under a line of text."""
    band = np.full((28, image.shape[1], 3), 255, np.uint8)
    cv2.putText(band, text, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (20, 20, 20), 1, cv2.LINE_AA)
    return np.concatenate([band, image])


def _tile(picture: np.ndarray, tile_px: int) -> np.ndarray:
    zoom = tile_px / max(picture.shape[:2])
    size = max(1, round(picture.shape[1] * zoom)), max(1, round(picture.shape[0] * zoom))
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    small = cv2.resize(picture, size, interpolation=method)
    tile = np.full((tile_px, tile_px, 3), 255, np.uint8)
    tile[: small.shape[0], : small.shape[1]] = small
    return tile


def flow_to_rgb(flow_px: Float[Tensor, "h w 2"], largest_px: float) -> UInt8[np.ndarray, "h w 3"]:
    """Direction as hue, length (up to ``largest_px``) as saturation; no motion is white."""
    flow = flow_px.numpy()
    length = np.linalg.norm(flow, axis=-1) / largest_px
    hue = (np.degrees(np.arctan2(flow[..., 1], flow[..., 0])) % 360) / 2
    hsv = np.stack([hue, 255 * length.clip(0, 1), np.full_like(hue, 255)], -1).astype(np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
