"""FeatLift Φ: the contact embedding, once per view, conditioned on the view's camera (paper Eq. 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ivlm_core.errors import ConfigError

# Distance, elevation°, azimuth°, x and y shift are brought to about 0…1 as (value + offset) / scale.
CAMERA_OFFSET = (0.0, 0.0, 0.0, 1.0, 1.0)
CAMERA_SCALE = (10.0, 360.0, 360.0, 2.0, 2.0)


# What stands for "no camera": its code is five zeros.
NO_CAMERA = (0.0, 0.0, 0.0, -1.0, -1.0)


def camera_code(cameras: Tensor) -> Tensor:
    """(J, 5) camera parameters → (J, 5) codes of about 0…1, what the encoders read."""
    return (cameras + cameras.new_tensor(CAMERA_OFFSET)) / cameras.new_tensor(CAMERA_SCALE)


def raw_camera(code: Tensor) -> Tensor:
    """The inverse of `camera_code`. A code of zeros stands for no camera at all."""
    return code * code.new_tensor(CAMERA_SCALE) - code.new_tensor(CAMERA_OFFSET)


class FeatLift(nn.Module):
    """Lift one embedding per query to one per view.

    Parameters
    ----------
    kind : how the camera c_v enters, with E the embedding:
        `simple` E + ReLU(W c); `view_index` E · (T_v σ(W₂ ReLU(W₁ c))); `vi_v1` E · σ(T_v ReLU(W₂ ReLU(W₁ c)));
        `none` E alone.
    dim : D, width of the embedding.
    views : J, the most views one mesh has; `view_index` and `vi_v1` hold one matrix T_v for each.
    """

    def __init__(self, kind: str, dim: int, views: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "simple":
            self.linear = nn.Linear(5, dim)
        elif kind in ("view_index", "vi_v1"):
            inner = dim if kind == "view_index" else dim // 2
            self.spatial_encoder = nn.Sequential(nn.Linear(5, inner), nn.ReLU(), nn.Linear(inner, inner))
            self.view_transforms = nn.ModuleList(nn.Linear(inner, dim) for _ in range(views))
        elif kind != "none":
            raise ConfigError("localize.featlift", f"is {kind!r}", "choose simple, view_index, vi_v1 or none")
        for parameter in self.parameters():
            nn.init.xavier_uniform_(parameter) if parameter.ndim > 1 else nn.init.zeros_(parameter)

    def forward(self, embedding: Tensor, cameras: Tensor) -> Tensor:
        """Condition the embeddings on the cameras.

        Parameters
        ----------
        embedding : (K, D).
        cameras : (J, 5) distance, elevation°, azimuth°, x shift, y shift, in the order of the views.

        Returns
        -------
        (K, J, D).
        """
        normalised = camera_code(cameras).to(embedding.dtype)  # (J, 5)
        lifted = embedding[:, None].expand(-1, len(cameras), -1)  # (K, J, D)
        if self.kind == "simple":
            return lifted + torch.relu(self.linear(normalised))
        if self.kind == "none":
            return lifted
        if len(cameras) > len(self.view_transforms):
            raise ConfigError("views", f"are {len(cameras)}", f"this model was made for {len(self.view_transforms)}")
        encoded = self.spatial_encoder(normalised)
        if self.kind == "view_index":
            encoded = torch.sigmoid(encoded)
        else:
            encoded = torch.relu(encoded)
        transforms = list(self.view_transforms)[: len(cameras)]
        factors = torch.stack([transform(code) for transform, code in zip(transforms, encoded, strict=True)])
        return lifted * (factors if self.kind == "view_index" else torch.sigmoid(factors))
