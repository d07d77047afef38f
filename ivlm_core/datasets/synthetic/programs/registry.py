"""What the composer knows how to stage: supports that carry the person, and actions with things."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ivlm_core.datasets.synthetic.programs import held, surfaces, worn
from ivlm_core.datasets.synthetic.programs.boards import foot_on_ball, stand_on_board
from ivlm_core.datasets.synthetic.programs.lying import lie
from ivlm_core.datasets.synthetic.programs.prone import lie_prone
from ivlm_core.datasets.synthetic.programs.riding import ride, stand_beside
from ivlm_core.datasets.synthetic.programs.seated import sit
from ivlm_core.datasets.synthetic.programs.stage import Stage
from ivlm_core.datasets.synthetic.programs.standing import behind_chair, stand
from ivlm_core.datasets.synthetic.programs.tables import lean_on_table, sit_at_table, stand_at_table

# (stage, category, mode) → nothing; poses the person and places the thing, or raises `Unreachable`.
Program = Callable[[Stage, str, str], None]

# Category, or category and the first word of the mode, or a ground → support.
SUPPORTS: Mapping[str, Program] = MappingProxyType(
    {
        "stand": stand,
        "stand at table": stand_at_table,
        "sit at table": sit_at_table,
        "chair": sit,
        "chair: behind": behind_chair,
        "bench": sit,
        "couch": sit,
        "bed": sit,
        "suitcase": sit,
        "skateboard": stand_on_board,
        "surfboard": stand_on_board,
        "snowboard": stand_on_board,
        "bench: lie": lie,
        "couch: lie": lie,
        "bed: lie": lie,
        "surfboard: lie": lie_prone,
        "sports ball: left": foot_on_ball,
        "sports ball: right": foot_on_ball,
        "bicycle": ride,
        "bicycle: beside": stand_beside,
        "motorcycle": ride,
        "motorcycle: beside": stand_beside,
    }
)


# Category → what hands and backs do with it.
ACTIONS: Mapping[str, Program] = MappingProxyType(
    {**held.ACTIONS, **worn.ACTIONS, **surfaces.ACTIONS, "dining table": lean_on_table}
)
