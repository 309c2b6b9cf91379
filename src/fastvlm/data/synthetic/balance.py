"""How often a drawn question is kept, by intent and answer: what makes no answer a good guess.

Found by `calibration.py`. Answers that are not listed are always kept.
"""

from __future__ import annotations

# fmt: off
ATTEMPTS: dict[str, float] = {
    "exist_pair": 0.594, "exist_color": 0.609, "exist_shape": 0.586, "exist_size": 0.676, "all_are": 1.34,
    "color_of_shape": 1.62, "color_of_extreme": 1.77, "color_of_all": 1.88, "shape_of_color": 1.54,
    "shape_of_extreme": 1.64, "shape_of_all": 1.9, "count_all": 0.919, "count_color": 1.05, "count_shape": 1.12,
    "count_pair": 2.35, "count_kinds": 3.84, "relation_is": 1.16, "relation_where": 1.99, "relation_what": 4.16,
    "extreme_what": 1.48, "more": 0.722, "as_many": 1.29, "which_more": 0.774, "larger": 2.81, "same_attribute": 3.23,
    "most_common": 1.85, "size_of": 1.15, "size_extreme_color": 5.49, "size_extreme_shape": 6.42,
    "size_extreme_what": 4.3, "position_of": 1.95, "position_what": 0.895, "position_is": 0.831,
    "background_color": 1.54, "background_is": 0.616, "state_exist": 0.562, "state_none": 0.682, "state_count": 0.657,
    "state_at_least": 0.501, "state_at_most": 0.944, "state_relation": 1.27, "state_more": 0.835, "state_color": 1.33,
    "state_all": 1.34, "absent": 0.51, "describe": 0.581, "outside": 0.48,
}
"""How much more often an intent is tried than it is wanted, since many scenes offer no question of it."""

ACCEPTANCE: dict[str, dict[str, float]] = {
    "all_are": {"no": 0.731, "yes": 1},
    "as_many": {"no": 0.544, "yes": 1},
    "background_color": {
        "black": 1, "blue": 0.772, "brown": 0.71, "green": 0.786, "grey": 0.132, "orange": 0.843, "pink": 0.734,
        "purple": 0.669, "red": 0.757, "white": 0.0836, "yellow": 0.747,
    },
    "background_is": {"no": 1, "yes": 0.946},
    "color_of_all": {
        "black": 0.717, "blue": 0.928, "brown": 0.878, "green": 0.93, "orange": 0.732, "pink": 1, "purple": 0.718,
        "red": 0.533, "white": 0.677, "yellow": 0.821,
    },
    "color_of_extreme": {
        "black": 0.687, "blue": 0.908, "brown": 0.775, "green": 0.748, "orange": 0.843, "pink": 1, "purple": 0.756,
        "red": 0.867, "white": 0.898, "yellow": 0.795,
    },
    "color_of_shape": {
        "black": 0.655, "blue": 0.75, "brown": 0.743, "green": 0.759, "orange": 0.926, "pink": 1, "purple": 0.787,
        "red": 0.959, "white": 0.856, "yellow": 0.694,
    },
    "count_all": {
        "0": 0.27, "1": 0.937, "2": 0.941, "3": 1, "4": 0.732, "5": 0.734, "6": 0.66, "7": 0.559, "8": 0.505,
        "9": 0.346,
    },
    "count_color": {
        "0": 0.103, "1": 0.269, "2": 0.333, "3": 0.382, "4": 0.487, "5": 0.586, "6": 0.708, "7": 1, "8": 0.784,
        "9": 0.587,
    },
    "count_kinds": {"1": 0.101, "2": 0.116, "3": 0.21, "4": 0.454, "5": 1},
    "count_pair": {
        "0": 0.0536, "1": 0.114, "2": 0.137, "3": 0.194, "4": 0.363, "5": 0.518, "6": 1, "7": 0.903, "8": 0.717,
        "9": 0.648,
    },
    "count_shape": {
        "0": 0.133, "1": 0.407, "2": 0.401, "3": 0.503, "4": 0.637, "5": 0.87, "6": 0.942, "7": 0.995, "8": 1,
        "9": 0.801,
    },
    "describe": {"an empty picture": 0.25},
    "exist_color": {"no": 0.823, "yes": 1},
    "exist_pair": {"no": 0.792, "yes": 1},
    "exist_shape": {"no": 0.768, "yes": 1},
    "exist_size": {"no": 1, "yes": 0.889},
    "larger": {"no": 1, "yes": 0.908},
    "more": {"no": 0.91, "yes": 1},
    "most_common": {
        "black": 0.399, "blue": 0.521, "brown": 0.474, "circle": 0.338, "cross": 0.518, "diamond": 0.395,
        "green": 0.547, "heart": 0.403, "orange": 0.621, "pink": 1, "purple": 0.762, "red": 0.516, "ring": 0.412,
        "square": 0.261, "star": 0.394, "triangle": 0.366, "white": 0.473, "yellow": 0.547,
    },
    "position_is": {"no": 1, "yes": 0.75},
    "position_of": {
        "bottom": 0.707, "bottom left": 0.746, "bottom right": 0.703, "centre": 0.796, "left": 0.922, "right": 1,
        "top": 0.838, "top left": 0.897, "top right": 0.778,
    },
    "relation_is": {"no": 1, "yes": 0.983},
    "relation_where": {"above": 1, "below": 0.945, "left": 0.936, "right": 0.968},
    "same_attribute": {"no": 1, "yes": 0.96},
    "shape_of_all": {
        "circle": 0.671, "cross": 0.741, "diamond": 0.916, "heart": 0.759, "ring": 0.815, "square": 0.763, "star": 1,
        "triangle": 0.664,
    },
    "shape_of_color": {
        "circle": 0.665, "cross": 0.856, "diamond": 0.892, "heart": 0.942, "ring": 0.869, "square": 0.678, "star": 1,
        "triangle": 0.699,
    },
    "shape_of_extreme": {
        "circle": 0.814, "cross": 0.858, "diamond": 0.927, "heart": 1, "ring": 0.877, "square": 0.727, "star": 0.868,
        "triangle": 0.734,
    },
    "size_extreme_color": {
        "black": 0.792, "blue": 0.774, "brown": 0.895, "green": 0.743, "orange": 0.825, "pink": 0.877, "purple": 1,
        "red": 0.881, "white": 0.702, "yellow": 0.82,
    },
    "size_extreme_shape": {
        "circle": 0.439, "cross": 0.73, "diamond": 0.568, "heart": 0.573, "ring": 0.383, "square": 0.437, "star": 1,
        "triangle": 0.41,
    },
    "size_of": {"large": 1, "medium": 0.768, "small": 0.883},
    "state_all": {"no": 0.654, "yes": 1},
    "state_at_least": {"no": 0.757, "yes": 1},
    "state_at_most": {"no": 1, "yes": 0.44},
    "state_color": {"no": 1, "yes": 0.978},
    "state_count": {"no": 0.755, "yes": 1},
    "state_exist": {"no": 0.802, "yes": 1},
    "state_more": {"no": 0.854, "yes": 1},
    "state_none": {"no": 1, "yes": 0.697},
    "state_relation": {"no": 0.894, "yes": 1},
}
"""Share of the drawn questions that is kept, by intent and answer."""
