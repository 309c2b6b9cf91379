"""Generated scenes of coloured shapes with questions, answers and dense labels: data that needs no download.

numpy and Pillow only. `samples.scene_sample` is the way in.
"""

from fastvlm.data.synthetic.draw import draw_scene, render
from fastvlm.data.synthetic.labels import NUM_PAIRS, NUM_TOKEN_FEATURES, center_map, label_maps, token_features
from fastvlm.data.synthetic.outside import OUTSIDE_ANSWER
from fastvlm.data.synthetic.palette import COLORS
from fastvlm.data.synthetic.questions import FAMILIES, FAMILY_WEIGHTS, Phrasing, Question, sample_questions
from fastvlm.data.synthetic.samples import GENERATOR_VERSION, SceneSample, Split, scene_sample, tokenizer_corpus
from fastvlm.data.synthetic.sampling import sample_scene
from fastvlm.data.synthetic.scene import CANVAS_SIZES_PX, Scene, SceneObject
from fastvlm.data.synthetic.shapes import SHAPES

__all__ = [
    "CANVAS_SIZES_PX",
    "COLORS",
    "FAMILIES",
    "FAMILY_WEIGHTS",
    "GENERATOR_VERSION",
    "NUM_PAIRS",
    "NUM_TOKEN_FEATURES",
    "OUTSIDE_ANSWER",
    "SHAPES",
    "Phrasing",
    "Question",
    "Scene",
    "SceneObject",
    "SceneSample",
    "Split",
    "center_map",
    "draw_scene",
    "label_maps",
    "render",
    "sample_questions",
    "sample_scene",
    "scene_sample",
    "token_features",
    "tokenizer_corpus",
]
