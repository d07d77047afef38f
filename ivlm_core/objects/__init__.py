"""Object meshes: a parametric library by label, libraries in folders, retrieval by picture, and mesh files by path."""

from ivlm_core.objects.builtin import builtin_library, default_vertices
from ivlm_core.objects.descriptors import SilhouetteEmbedder
from ivlm_core.objects.embedding import Embedder
from ivlm_core.objects.entries import Embeddings, Entry, ObjectLibrary, ScalePrior
from ivlm_core.objects.index import FolderLibrary, open_library, write_library
from ivlm_core.objects.indexing import NewMesh, add_meshes, reindex
from ivlm_core.objects.labels import LabelMatch, match_label
from ivlm_core.objects.library import canonical_label, library_labels, library_mesh, library_shape
from ivlm_core.objects.loading import glb_bytes, load_glb_parts, load_mesh, write_glb
from ivlm_core.objects.retrieval import ObjectMatch, find_object, normalize_for_views
from ivlm_core.objects.search import Hit, search
from ivlm_core.objects.shapes import Anchor, Shape
from ivlm_core.objects.transfer import corresponding_vertices
from ivlm_core.objects.variation import varied_shape, varied_sizes

__all__ = [
    "Anchor",
    "Embedder",
    "Embeddings",
    "Entry",
    "FolderLibrary",
    "Hit",
    "LabelMatch",
    "NewMesh",
    "ObjectLibrary",
    "ObjectMatch",
    "ScalePrior",
    "Shape",
    "SilhouetteEmbedder",
    "add_meshes",
    "builtin_library",
    "canonical_label",
    "corresponding_vertices",
    "default_vertices",
    "find_object",
    "glb_bytes",
    "library_labels",
    "library_mesh",
    "library_shape",
    "load_glb_parts",
    "load_mesh",
    "match_label",
    "normalize_for_views",
    "open_library",
    "reindex",
    "search",
    "varied_shape",
    "varied_sizes",
    "write_glb",
    "write_library",
]
