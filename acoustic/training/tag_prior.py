"""Where the linear head of a new vit_hybrid starts: at the trunk's own names for the genres.

The trunk was trained on AudioSet, some of whose classes are genres. The penalty of the linear head
draws it to these instead of to zero, which says something about a genre with few recordings.

Source: Xuhong et al., Explicit Inductive Bias for Transfer Learning (2018).
"""

from __future__ import annotations

import torch
from torch import nn

from acoustic.classify.mobilenet import EMBEDDING, MUSIC_CLASSES
from acoustic.labels import GENRES, LabelSet

AUDIOSET_GENRES: dict[str, tuple[int, ...]] = {
    "Blues": (246,),
    "Classical": (25, 179, 185, 232, 233),
    "Jazz": (225, 230),
    "Folk": (226, 228, 259),
    "Pop": (211, 260),
    "Electronic": (234, 235, 236, 237, 238, 239, 240, 241, 242),
    "Disco": (231,),
    "Rock": (214, 216, 217, 218, 219, 220),
    "Hip-Hop": (210, 212, 213),
    "Rap": (31,),
    "Metal": (215,),
    "R&B": (221, 222, 227),
    "Reggae": (223, 258),
    "World": (229, 251, 252, 255, 256, 257),
    "Latin": (243, 244, 245),
    "Country": (224,),
}
"""Genre → its classes of AudioSet in YAMNet's order; by name in configs/labels/audioset.yaml."""


@torch.no_grad()
def start_from_tags(head: nn.Linear, labels: LabelSet, strength: float) -> None:
    """Set the weights of a new linear head to the mean of each genre's classes.

    Args:
        head: of a TagHead, E + 153 inputs; changed in place. Genres that AudioSet has no class for,
            by name or alias, keep their weights.
        labels: the C genres of the head.
        strength: log-odds per standard deviation of the mean log probability of a genre's classes.
    """
    for name, classes in AUDIOSET_GENRES.items():
        known = GENRES.labels[GENRES.index(name)]
        for each in (known.name, *known.aliases):
            if each in labels:
                places = [EMBEDDING + MUSIC_CLASSES.index(c) for c in classes]
                head.weight[labels.index(each), places] = strength / len(classes)
                break
