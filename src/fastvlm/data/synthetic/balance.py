"""How often a drawn question is kept, by intent and answer: what makes no answer a good guess.

Found by `calibration.py`. Answers that are not listed are always kept.
"""

from __future__ import annotations

# fmt: off
ATTEMPTS: dict[str, float] = {
    "exist_pair": 0.625, "exist_color": 0.622, "exist_shape": 0.642, "exist_size": 0.672, "all_are": 1.42,
    "color_of_shape": 1.52, "color_of_extreme": 1.54, "color_of_all": 2.19, "shape_of_color": 1.55,
    "shape_of_extreme": 1.46, "shape_of_all": 2.06, "count_all": 0.946, "count_color": 1.4, "count_shape": 1.38,
    "count_pair": 2.8, "count_kinds": 2.72, "relation_is": 1.04, "relation_where": 1.62, "relation_what": 3.57,
    "extreme_what": 1.34, "more": 0.72, "as_many": 1.23, "which_more": 0.722, "larger": 2.11,
    "same_attribute": 2.57, "most_common": 2.27, "size_of": 1.16, "size_extreme_color": 3.58,
    "size_extreme_shape": 3.63, "size_extreme_what": 3.52, "position_of": 1.58, "position_what": 0.99,
    "position_is": 0.799, "background_color": 1.36, "background_is": 0.567, "state_exist": 0.563,
    "state_none": 0.619, "state_count": 0.689, "state_at_least": 0.662, "state_at_most": 0.976,
    "state_relation": 1.04, "state_more": 0.748, "state_color": 1.18, "state_all": 1.53, "absent": 0.509,
    "describe": 0.573, "outside": 0.48,
}
"""How much more often an intent is tried than it is wanted, since many scenes offer no question of it."""

ACCEPTANCE: dict[str, dict[str, float]] = {
    "all_are": {"no": 0.577, "yes": 1},
    "as_many": {"no": 0.593, "yes": 1},
    "background_color": {
        "black": 0.767, "blue": 0.707, "brown": 0.735, "green": 0.677, "grey": 0.128, "orange": 0.929, "pink": 0.82,
        "purple": 1, "red": 0.633, "white": 0.1, "yellow": 0.745,
    },
    "background_is": {"no": 1, "yes": 0.968},
    "color_of_all": {
        "black": 0.69, "blue": 0.677, "brown": 0.732, "green": 0.759, "grey": 0.954, "orange": 0.611, "pink": 1,
        "purple": 0.799, "red": 0.947, "white": 0.598, "yellow": 0.777,
    },
    "color_of_extreme": {
        "black": 0.743, "blue": 0.85, "brown": 0.927, "green": 0.831, "grey": 0.918, "orange": 0.846, "pink": 1,
        "purple": 0.886, "red": 0.868, "white": 0.703, "yellow": 0.69,
    },
    "color_of_shape": {
        "black": 0.637, "blue": 0.66, "brown": 0.757, "green": 0.727, "grey": 0.71, "orange": 0.802, "pink": 1,
        "purple": 0.865, "red": 0.705, "white": 0.676, "yellow": 0.651,
    },
    "count_all": {
        "0": 0.215, "1": 0.762, "2": 0.937, "3": 1, "4": 0.89, "5": 0.797, "6": 0.691, "7": 0.744, "8": 0.709,
        "9": 0.744,
    },
    "count_color": {
        "0": 0.0683, "1": 0.256, "2": 0.274, "3": 0.339, "4": 0.39, "5": 0.541, "6": 0.673, "7": 0.819, "8": 0.786,
        "9": 1,
    },
    "count_kinds": {"1": 0.153, "2": 0.0921, "3": 0.162, "4": 0.488, "5": 1},
    "count_pair": {
        "0": 0.041, "1": 0.0956, "2": 0.116, "3": 0.189, "4": 0.356, "5": 0.475, "6": 0.635, "7": 0.85, "8": 0.784,
        "9": 1,
    },
    "count_shape": {
        "0": 0.0695, "1": 0.248, "2": 0.284, "3": 0.377, "4": 0.472, "5": 0.629, "6": 0.719, "7": 0.893, "8": 1,
        "9": 0.972,
    },
    "describe": {"an empty picture": 0.25},
    "exist_color": {"no": 0.78, "yes": 1},
    "exist_pair": {"no": 0.769, "yes": 1},
    "exist_shape": {"no": 0.779, "yes": 1},
    "exist_size": {"no": 0.977, "yes": 1},
    "larger": {"no": 1, "yes": 0.948},
    "more": {"no": 0.908, "yes": 1},
    "most_common": {
        "black": 0.448, "blue": 0.551, "brown": 0.732, "circle": 0.448, "cross": 0.568, "diamond": 0.503,
        "green": 0.781, "grey": 0.596, "heart": 0.6, "hexagon": 0.766, "orange": 0.616, "pink": 1, "purple": 0.749,
        "red": 0.652, "ring": 0.646, "square": 0.433, "star": 0.487, "triangle": 0.696, "white": 0.771,
        "yellow": 0.504,
    },
    "position_is": {"no": 1, "yes": 0.903},
    "position_of": {
        "bottom": 0.719, "bottom left": 0.585, "bottom right": 0.708, "centre": 1, "left": 0.904, "right": 0.941,
        "top": 0.871, "top left": 0.794, "top right": 0.732,
    },
    "relation_is": {"no": 0.993, "yes": 1},
    "relation_where": {"above": 0.953, "below": 1, "left": 0.957, "right": 0.901},
    "same_attribute": {"no": 0.962, "yes": 1},
    "shape_of_all": {
        "circle": 0.634, "cross": 0.916, "diamond": 0.845, "heart": 0.731, "hexagon": 0.819, "ring": 1,
        "square": 0.564, "star": 0.835, "triangle": 0.7,
    },
    "shape_of_color": {
        "circle": 0.782, "cross": 0.942, "diamond": 0.961, "heart": 0.969, "hexagon": 0.949, "ring": 0.914,
        "square": 0.805, "star": 1, "triangle": 0.745,
    },
    "shape_of_extreme": {
        "circle": 0.705, "cross": 1, "diamond": 0.893, "heart": 0.968, "hexagon": 0.984, "ring": 0.866,
        "square": 0.86, "star": 0.871, "triangle": 0.767,
    },
    "size_extreme_color": {
        "black": 0.723, "blue": 0.798, "brown": 0.709, "green": 0.749, "grey": 0.875, "orange": 0.879, "pink": 1,
        "purple": 0.789, "red": 0.816, "white": 0.663, "yellow": 0.712,
    },
    "size_extreme_shape": {
        "circle": 0.562, "cross": 0.668, "diamond": 0.701, "heart": 0.725, "hexagon": 1, "ring": 0.708,
        "square": 0.661, "star": 0.788, "triangle": 0.568,
    },
    "size_of": {"large": 1, "medium": 0.853, "small": 0.767},
    "state_all": {"no": 0.533, "yes": 1},
    "state_at_least": {"no": 0.724, "yes": 1},
    "state_at_most": {"no": 1, "yes": 0.425},
    "state_color": {"no": 1, "yes": 0.952},
    "state_count": {"no": 0.693, "yes": 1},
    "state_exist": {"no": 0.862, "yes": 1},
    "state_more": {"no": 0.854, "yes": 1},
    "state_none": {"no": 1, "yes": 0.672},
    "state_relation": {"no": 1, "yes": 1},
}
"""Share of the drawn questions that is kept, by intent and answer."""
