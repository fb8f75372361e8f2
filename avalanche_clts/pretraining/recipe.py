"""How large a pair is, and how long it is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .._support.checks import require_one_of, require_whole
from ..choices import RouterView
from ..pair.devices import require_device


@dataclass(frozen=True)
class Recipe:
    """The defaults are those of the embedded pair.

    **Arguments:**

    - side: of the square images that the pair sees and makes, in pixels.
    - autoencoder_widths: channels of the autoencoder at the images' size, half of it, and so on; the last is the size
        of the latents.
    - latent_channels: of the latents.
    - noise_variance: of the decoder's Gaussian: weighs squared error against the KL divergence that keeps latents
        normal.
    - feature_weight: of the distance between the features of an image and of the decoded one, in a network that reads
        the caption's words off the image.
    - feature_steps: optimizer steps of that network. With 0, or no weight, there is none.
    - unet_widths: channels of the denoiser at the latents' size, half of it, and so on; the second has the text's
        attention.
    - captioner_steps, autoencoder_steps, diffusion_steps: optimizer steps of each part.
    - distillation_steps: optimizer steps in which the denoiser learns to do with fewer sampling steps. 0: it does not.
    - num_trajectories: that it learns this from.
    - batch_size: of captioner and denoiser; the network of the features takes half, and the autoencoder, which needs
        steps more than images, a quarter.
    - teacher_steps, guidance_scale: how the generator samples before distillation.
    - sampling_steps: how many it does with afterwards; a divisor of `teacher_steps`. There is no guidance then: what it
        does has become part of the weights.
    - router_view: what the pair suggests that CLTS's router is shown, as in `CLTS`.
    - device: where it is trained.
    """

    side: int = 32
    autoencoder_widths: tuple[int, ...] = (16, 32, 64)
    latent_channels: int = 4
    noise_variance: float = 0.005
    feature_weight: float = 0.0
    feature_steps: int = 1200
    unet_widths: tuple[int, ...] = (64, 128, 192)
    captioner_steps: int = 28_000
    autoencoder_steps: int = 6000
    diffusion_steps: int = 8400
    distillation_steps: int = 600
    num_trajectories: int = 24_000
    batch_size: int = 128
    teacher_steps: int = 4
    guidance_scale: float = 1.5
    sampling_steps: int = 2
    router_view: RouterView = "input"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for part in ("captioner", "autoencoder", "diffusion"):
            require_whole(f"{part}_steps", getattr(self, f"{part}_steps"))
        for part in ("feature", "distillation"):
            require_whole(f"{part}_steps", getattr(self, f"{part}_steps"), least=0)
        require_one_of("router_view", self.router_view, RouterView)
        require_device("device", self.device)
        if self.teacher_steps % self.sampling_steps:
            raise ValueError(
                f"sampling_steps is {self.sampling_steps}; it must divide teacher_steps, which is {self.teacher_steps}"
            )

    @property
    def sampling(self) -> dict[str, float]:
        """How the finished generator samples."""
        if self.distillation_steps:
            return {"steps": self.sampling_steps, "guidance_scale": 1.0}
        return {"steps": self.teacher_steps, "guidance_scale": self.guidance_scale}

    @property
    def latent_side(self) -> int:
        """Of the square latents."""
        return self.side >> (len(self.autoencoder_widths) - 1)


# For photographs, on a CPU. What each choice gains is in benchmarks/results/pretraining/.
PHOTOS = Recipe(
    autoencoder_widths=(16, 32, 64),
    latent_channels=8,
    noise_variance=0.001,
    feature_weight=20.0,
    unet_widths=(96, 192),
    captioner_steps=8000,
    autoencoder_steps=8000,
    diffusion_steps=12_000,
    distillation_steps=0,
    teacher_steps=8,
    guidance_scale=2.5,
    router_view="autoencoded",
)
# And on a GPU, where a step costs much the same whatever its size: wider networks, larger batches.
PHOTOS_ON_GPU = replace(
    PHOTOS,
    autoencoder_widths=(48, 96, 96),
    unet_widths=(128, 192),
    captioner_steps=1000,
    autoencoder_steps=1200,
    feature_steps=300,
    diffusion_steps=3000,
    batch_size=2048,
)
