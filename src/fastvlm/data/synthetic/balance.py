"""How often a drawn question is kept, by intent and answer: what makes no answer a good guess.

Found by `calibration.py`. Answers that are not listed are always kept.
"""

from __future__ import annotations

# fmt: off
ATTEMPTS: dict[str, float] = {
    "exist_pair": 0.624, "exist_color": 0.578, "exist_shape": 0.562, "exist_size": 0.681, "all_are": 1.4,
    "color_of_shape": 1.54, "color_of_extreme": 1.7, "color_of_all": 1.7, "shape_of_color": 1.52,
    "shape_of_extreme": 1.77, "shape_of_all": 2.47, "count_all": 1.02, "count_color": 1.21, "count_shape": 1.14,
    "count_pair": 2.21, "count_kinds": 4.19, "relation_is": 1.23, "relation_where": 1.92, "relation_what": 4.49,
    "extreme_what": 1.52, "more": 0.736, "as_many": 1.36, "which_more": 0.725, "larger": 3.19, "same_attribute": 2.94,
    "most_common": 1.93, "size_of": 1.14, "size_extreme_color": 5.43, "size_extreme_shape": 5.21,
    "size_extreme_what": 4.77, "position_of": 1.9, "position_what": 1.02, "position_is": 0.847,
    "background_color": 1.46, "background_is": 0.665, "state_exist": 0.642, "state_none": 0.635, "state_count": 0.591,
    "state_at_least": 0.538, "state_at_most": 1.27, "state_relation": 1.2, "state_more": 0.746, "state_color": 1.34,
    "state_all": 1.29, "absent": 0.532, "describe": 0.584, "outside": 0.486,
}
"""How much more often an intent is tried than it is wanted, since many scenes offer no question of it."""

ACCEPTANCE: dict[str, dict[str, float]] = {
    "all_are": {"no": 0.753, "yes": 1},
    "as_many": {"no": 0.561, "yes": 1},
    "background_color": {
        "black": 0.971, "blue": 0.901, "green": 0.852, "grey": 0.174, "orange": 0.8, "purple": 1, "red": 0.86,
        "white": 0.108, "yellow": 0.906,
    },
    "background_is": {"no": 0.959, "yes": 1},
    "color_of_all": {
        "black": 0.962, "blue": 1, "green": 0.882, "orange": 0.586, "purple": 0.746, "red": 0.709, "white": 0.728,
        "yellow": 0.796,
    },
    "color_of_extreme": {
        "black": 0.882, "blue": 0.966, "green": 0.889, "orange": 0.874, "purple": 0.857, "red": 0.824, "white": 1,
        "yellow": 0.964,
    },
    "color_of_shape": {
        "black": 0.754, "blue": 0.829, "green": 0.81, "orange": 0.849, "purple": 0.748, "red": 0.854, "white": 1,
        "yellow": 0.898,
    },
    "count_all": {
        "0": 0.193, "1": 0.654, "2": 1, "3": 0.839, "4": 0.642, "5": 0.73, "6": 0.54, "7": 0.545, "8": 0.464,
        "9": 0.318,
    },
    "count_color": {
        "0": 0.0859, "1": 0.294, "2": 0.32, "3": 0.418, "4": 0.448, "5": 0.629, "6": 0.769, "7": 1, "8": 0.944,
        "9": 0.52,
    },
    "count_kinds": {"1": 0.134, "2": 0.0923, "3": 0.187, "4": 0.367, "5": 1},
    "count_pair": {
        "0": 0.0535, "1": 0.108, "2": 0.147, "3": 0.244, "4": 0.427, "5": 0.651, "6": 0.579, "7": 0.837, "8": 1,
        "9": 0.626,
    },
    "count_shape": {
        "0": 0.105, "1": 0.404, "2": 0.437, "3": 0.627, "4": 0.723, "5": 0.798, "6": 0.942, "7": 1, "8": 0.894,
        "9": 0.633,
    },
    "describe": {"an empty picture": 0.25},
    "exist_color": {"no": 0.834, "yes": 1},
    "exist_pair": {"no": 0.682, "yes": 1},
    "exist_shape": {"no": 0.8, "yes": 1},
    "exist_size": {"no": 1, "yes": 0.83},
    "larger": {"no": 1, "yes": 0.872},
    "more": {"no": 1, "yes": 0.942},
    "most_common": {
        "black": 0.647, "blue": 0.652, "circle": 0.616, "cross": 0.414, "green": 1, "heart": 0.389, "orange": 0.672,
        "purple": 0.66, "red": 0.699, "square": 0.527, "star": 0.407, "triangle": 0.446, "white": 0.779,
        "yellow": 0.606,
    },
    "position_is": {"no": 1, "yes": 0.765},
    "position_of": {
        "bottom": 0.576, "bottom left": 0.613, "bottom right": 0.559, "centre": 0.81, "left": 1, "right": 0.887,
        "top": 0.726, "top left": 0.665, "top right": 0.552,
    },
    "relation_is": {"no": 0.997, "yes": 1},
    "relation_where": {"above": 1, "below": 0.852, "left": 0.898, "right": 0.833},
    "same_attribute": {"no": 1, "yes": 0.88},
    "shape_of_all": {"circle": 0.859, "cross": 1, "heart": 0.649, "square": 0.801, "star": 0.619, "triangle": 0.565},
    "shape_of_color": {"circle": 0.672, "cross": 1, "heart": 0.688, "square": 0.619, "star": 0.775, "triangle": 0.578},
    "shape_of_extreme": {
        "circle": 0.887, "cross": 1, "heart": 0.803, "square": 0.734, "star": 0.882, "triangle": 0.859,
    },
    "size_extreme_color": {
        "black": 0.922, "blue": 0.882, "green": 0.676, "orange": 0.626, "purple": 1, "red": 0.944, "white": 0.683,
        "yellow": 0.585,
    },
    "size_extreme_shape": {
        "circle": 0.7, "cross": 0.992, "heart": 0.905, "square": 0.868, "star": 1, "triangle": 0.739,
    },
    "size_of": {"large": 1, "medium": 0.772, "small": 0.763},
    "state_all": {"no": 0.792, "yes": 1},
    "state_at_least": {"no": 0.709, "yes": 1},
    "state_at_most": {"no": 1, "yes": 0.5},
    "state_color": {"no": 1, "yes": 0.747},
    "state_count": {"no": 0.758, "yes": 1},
    "state_exist": {"no": 0.695, "yes": 1},
    "state_more": {"no": 1, "yes": 0.953},
    "state_none": {"no": 1, "yes": 0.793},
    "state_relation": {"no": 0.98, "yes": 1},
}
"""Share of the drawn questions that is kept, by intent and answer."""
