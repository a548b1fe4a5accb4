"""The camera's electronics, frame by frame (compiled); `expose_reference` is the readable twin."""

from typing import no_type_check

import numba
import numpy as np

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")


@_jit
@no_type_check
def blur_along(image, flow, shutter, taps, out):
    """The mean of ``taps`` samples along each pixel's own path while the shutter is open."""
    height, width = image.shape[:2]
    for row in range(height):
        for column in range(width):
            r, g, b = 0.0, 0.0, 0.0
            for tap in range(taps):
                share = shutter * (tap / (taps - 1) - 0.5)
                x = min(max(column + share * flow[row, column, 0], 0.0), width - 1.0)
                y = min(max(row + share * flow[row, column, 1], 0.0), height - 1.0)
                j, i = int(x), int(y)
                fx, fy = x - j, y - i
                j1, i1 = min(j + 1, width - 1), min(i + 1, height - 1)
                a, c = (1 - fx) * (1 - fy), fx * (1 - fy)
                d, e = (1 - fx) * fy, fx * fy
                r += a * image[i, j, 0] + c * image[i, j1, 0]
                r += d * image[i1, j, 0] + e * image[i1, j1, 0]
                g += a * image[i, j, 1] + c * image[i, j1, 1]
                g += d * image[i1, j, 1] + e * image[i1, j1, 1]
                b += a * image[i, j, 2] + c * image[i, j1, 2]
                b += d * image[i1, j, 2] + e * image[i1, j1, 2]
            out[row, column, 0] = r / taps
            out[row, column, 1] = g / taps
            out[row, column, 2] = b / taps


@_jit
@no_type_check
def respond(image, gain, vignette, curve, contrast, noise, shot_noise, seed, frame):
    """Exposure, response and noise, in place; ``curve``: the response in equal steps over 0..2."""
    height, width = image.shape[:2]
    steps = curve.shape[0] - 1
    noisy = noise > 0 or shot_noise > 0
    start = frame * 0x9E3779B1 + seed * 0x85EBCA77
    for row in range(height):
        y = 2.0 * row / (height - 1) - 1.0
        for column in range(width):
            x = 2.0 * column / (width - 1) - 1.0
            shade = 1.0 - vignette * (x * x + y * y) / 2
            for c in range(3):
                value = image[row, column, c] * gain[c] * shade
                at = min(max(value, 0.0), 1.999) * 0.5 * steps
                low = int(at)
                value = curve[low] + (at - low) * (curve[low + 1] - curve[low])
                value = (value - 0.5) * contrast + 0.5
                if noisy:
                    h = ((c * height + row) * width + column + start) & 0xFFFFFFFF
                    h = ((h ^ (h >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
                    h = ((h ^ (h >> 15)) * 0x846CA68B) & 0xFFFFFFFF
                    h = h ^ (h >> 16)
                    total = (h & 255) + (h >> 8 & 255) + (h >> 16 & 255) + (h >> 24)
                    bright = min(max(value, 0.0), 1.0)
                    spread = np.sqrt(noise * noise + shot_noise * shot_noise * bright)
                    value += spread * (total - 510) / 147.8
                image[row, column, c] = value


@_jit
@no_type_check
def _cosines(block, basis, scratch, inverse):
    """``basis @ block @ basis.T``, or with the transposes, in place."""
    for i in range(8):
        for j in range(8):
            scratch[i, j] = np.float32(0)
        for k in range(8):
            w = basis[k, i] if inverse else basis[i, k]
            for j in range(8):
                scratch[i, j] += w * block[k, j]
    for i in range(8):
        for j in range(8):
            block[i, j] = np.float32(0)
        for k in range(8):
            w = scratch[i, k]
            for j in range(8):
                block[i, j] += w * (basis[k, j] if inverse else basis[j, k])


@_jit
@no_type_check
def compress(image, to_ycc, to_rgb, basis, steps):
    """What JPEG with these quantiser steps (3, 8, 8) loses, in place."""
    height, width = image.shape[:2]
    block = np.empty((8, 8), np.float32)
    scratch = np.empty((8, 8), np.float32)
    planes = np.empty((3, 8, 8), np.float32)
    for top in range(0, height, 8):
        for left in range(0, width, 8):
            for c in range(3):
                for i in range(8):
                    for j in range(8):
                        value = np.float32(0)
                        for k in range(3):
                            colour = min(max(image[top + i, left + j, k], 0.0), 1.0)
                            value += to_ycc[c, k] * np.float32(colour - 0.5)
                        block[i, j] = value
                _cosines(block, basis, scratch, False)
                for i in range(8):
                    for j in range(8):
                        block[i, j] = np.rint(block[i, j] / steps[c, i, j]) * steps[c, i, j]
                _cosines(block, basis, scratch, True)
                planes[c] = block
            for i in range(8):
                for j in range(8):
                    for k in range(3):
                        image[top + i, left + j, k] = (
                            to_rgb[k, 0] * planes[0, i, j]
                            + to_rgb[k, 1] * planes[1, i, j]
                            + to_rgb[k, 2] * planes[2, i, j]
                            + np.float32(0.5)
                        )


@_jit
@no_type_check
def store(image, out):
    """Colours 0..1 as bytes."""
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            for c in range(3):
                value = min(max(image[row, column, c], 0.0), 1.0) * 255 + 0.5
                out[row, column, c] = np.uint8(value)
