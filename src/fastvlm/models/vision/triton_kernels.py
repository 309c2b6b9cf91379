"""Depthwise convolutions of 3 x 3 and 7 x 7 and their gradients in Triton, for maps of any size (see gpu_convolution).

A map is num x channels x height x width, without gaps. A program handles a tile of ROWS x COLUMNS positions of one
plane; the position of an output is STRIDE times as far in the input, from which SIZE // 2 is taken off.
"""

from __future__ import annotations

import triton
from triton import language as tl

_SIZES = ("num", "channels", "in_height", "in_width", "out_height", "out_width", "height", "width", "share")
"""Arguments that kernels are not compiled anew for."""


@triton.jit(do_not_specialize=_SIZES)
def forward(
    x, weight, bias, out, channels, in_height, in_width, height, width,
    SIZE: tl.constexpr, STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write the convolution of x, plus the bias of each channel."""
    plane = tl.program_id(0).to(tl.int64)
    across = tl.cdiv(width, COLUMNS)
    row = (tl.program_id(1) // across) * ROWS + tl.arange(0, ROWS)[:, None]
    column = (tl.program_id(1) % across) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    kernel = weight + (plane % channels) * SIZE * SIZE
    source = x + plane * in_height * in_width
    found = tl.zeros((ROWS, COLUMNS), tl.float32) + tl.load(bias + plane % channels).to(tl.float32)
    for down in range(SIZE):
        for right in tl.static_range(SIZE):
            y = row * STRIDE + down - SIZE // 2
            z = column * STRIDE + right - SIZE // 2
            is_inside = (y >= 0) & (y < in_height) & (z >= 0) & (z < in_width)
            value = tl.load(source + y * in_width + z, mask=is_inside, other=0.0).to(tl.float32)
            found += value * tl.load(kernel + down * SIZE + right).to(tl.float32)
    place = out + plane * height * width + row * width + column
    tl.store(place, found.to(out.dtype.element_ty), mask=(row < height) & (column < width))


@triton.jit(do_not_specialize=_SIZES)
def input_gradient(
    gradient, weight, out, channels, out_height, out_width, height, width,
    SIZE: tl.constexpr, STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write what the gradient of a convolution is with respect to its input."""
    plane = tl.program_id(0).to(tl.int64)
    across = tl.cdiv(width, COLUMNS)
    row = (tl.program_id(1) // across) * ROWS + tl.arange(0, ROWS)[:, None]
    column = (tl.program_id(1) % across) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    kernel = weight + (plane % channels) * SIZE * SIZE
    source = gradient + plane * out_height * out_width
    found = tl.zeros((ROWS, COLUMNS), tl.float32)
    for down in range(SIZE):
        for right in tl.static_range(SIZE):
            # So many strides are added that nothing that is divided is below zero, and taken off again.
            up = row + (SIZE // 2 - down + SIZE * STRIDE)
            left = column + (SIZE // 2 - right + SIZE * STRIDE)
            y, z = up // STRIDE - SIZE, left // STRIDE - SIZE
            is_met = (up % STRIDE == 0) & (left % STRIDE == 0)
            is_inside = is_met & (y >= 0) & (y < out_height) & (z >= 0) & (z < out_width)
            value = tl.load(source + y * out_width + z, mask=is_inside, other=0.0).to(tl.float32)
            found += value * tl.load(kernel + down * SIZE + right).to(tl.float32)
    place = out + plane * height * width + row * width + column
    tl.store(place, found.to(out.dtype.element_ty), mask=(row < height) & (column < width))


@triton.jit(do_not_specialize=_SIZES)
def weight_gradient(
    x, gradient, parts, num, channels, in_height, in_width, height, width, share,
    SIZE: tl.constexpr, STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write, for each share of the pictures, the gradient of one row of a channel's kernel: 3 or 7 numbers."""
    # What is read of the gradient serves all numbers of the row.
    channel = tl.program_id(0) // SIZE
    down = tl.program_id(0) % SIZE
    found_0 = tl.zeros((ROWS, COLUMNS), tl.float32)
    found_1 = tl.zeros((ROWS, COLUMNS), tl.float32)
    found_2 = tl.zeros((ROWS, COLUMNS), tl.float32)
    found_3 = tl.zeros((ROWS, COLUMNS), tl.float32)
    found_4 = tl.zeros((ROWS, COLUMNS), tl.float32)
    found_5 = tl.zeros((ROWS, COLUMNS), tl.float32)
    found_6 = tl.zeros((ROWS, COLUMNS), tl.float32)
    for number in range(0, share):
        picture = tl.program_id(1) * share + number
        plane = (picture * channels + channel).to(tl.int64)
        source = x + plane * in_height * in_width
        wanted = gradient + plane * height * width
        for first_row in range(0, height, ROWS):
            row = first_row + tl.arange(0, ROWS)[:, None]
            y = row * STRIDE + down - SIZE // 2
            is_row = (row < height) & (y >= 0) & (y < in_height) & (picture < num)
            for first_column in range(0, width, COLUMNS):
                column = first_column + tl.arange(0, COLUMNS)[None, :]
                is_own = is_row & (column < width)
                own = tl.load(wanted + row * width + column, mask=is_own, other=0.0).to(tl.float32)
                z = column * STRIDE - SIZE // 2
                line = source + y * in_width + z
                found_0 += own * shifted(line, z, 0, in_width, is_own)
                found_1 += own * shifted(line, z, 1, in_width, is_own)
                found_2 += own * shifted(line, z, 2, in_width, is_own)
                if SIZE > 3:
                    found_3 += own * shifted(line, z, 3, in_width, is_own)
                    found_4 += own * shifted(line, z, 4, in_width, is_own)
                    found_5 += own * shifted(line, z, 5, in_width, is_own)
                    found_6 += own * shifted(line, z, 6, in_width, is_own)
    place = parts + tl.program_id(1) * channels * SIZE * SIZE + tl.program_id(0) * SIZE
    tl.store(place, tl.sum(found_0))
    tl.store(place + 1, tl.sum(found_1))
    tl.store(place + 2, tl.sum(found_2))
    if SIZE > 3:
        tl.store(place + 3, tl.sum(found_3))
        tl.store(place + 4, tl.sum(found_4))
        tl.store(place + 5, tl.sum(found_5))
        tl.store(place + 6, tl.sum(found_6))


@triton.jit
def shifted(line, z, right: tl.constexpr, in_width, is_own):
    """Read the input so many columns to the right, and nothing beyond its edges."""
    is_inside = is_own & (z + right >= 0) & (z + right < in_width)
    return tl.load(line + right, mask=is_inside, other=0.0).to(tl.float32)
