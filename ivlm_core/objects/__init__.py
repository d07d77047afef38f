"""Object meshes: a parametric library by label, and mesh files by path."""

from ivlm_core.objects.library import canonical_label, library_labels, library_mesh, library_shape
from ivlm_core.objects.loading import load_mesh, write_glb
from ivlm_core.objects.retrieval import ObjectMatch, find_object, normalize_for_views
from ivlm_core.objects.shapes import Anchor, Shape
from ivlm_core.objects.transfer import corresponding_vertices
from ivlm_core.objects.variation import varied_shape, varied_sizes

__all__ = [
    "Anchor",
    "ObjectMatch",
    "Shape",
    "canonical_label",
    "corresponding_vertices",
    "find_object",
    "library_labels",
    "library_mesh",
    "library_shape",
    "load_mesh",
    "normalize_for_views",
    "varied_shape",
    "varied_sizes",
    "write_glb",
]
