"""Change the apparent age of a face: a class-conditional StyleGAN2-ADA generator and a latent encoder.

The public names are in `facegen.__all__`, with a line each in docs/api.md. Everything else may change.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Where the public names are defined. They are resolved on first use, so that `import facegen` stays fast and pulls in
# neither torchvision, facenet-pytorch, matplotlib nor huggingface_hub.
_DEFINED_IN = {
    # changing ages
    "AgeTransfer": "facegen.aging.transfer",
    "Edit": "facegen.aging.edit",
    "save_results": "facegen.batch.save",
    "paste_results": "facegen.aging.paste",
    "photo_strip": "facegen.aging.strips",
    "save_morph": "facegen.aging.video",
    # the latent space
    "LatentSpace": "facegen.latents.space",
    "mix_styles": "facegen.latents.mixing",
    "directions": "facegen.latents.directions",
    "spread": "facegen.latents.directions",
    "move": "facegen.latents.directions",
    "project_photo": "facegen.latents.projection.photo",
    "ProjectionOptions": "facegen.latents.projection.options",
    "save_video": "facegen.aging.video",
    # photos and faces
    "open_photo": "facegen.images",
    "open_original": "facegen.photos.original",
    "save_photo": "facegen.photos.save",
    "Mark": "facegen.photos.mark",
    "find_faces": "facegen.faces.find",
    "align_face": "facegen.faces.align",
    "AlignmentTemplate": "facegen.faces.template",
    # weights
    "load_generator": "facegen.weights.load",
    "load_discriminator": "facegen.weights.load",
    "load_encoder": "facegen.weights.load",
    "load_age_estimator": "facegen.weights.load",
    "load_editor": "facegen.weights.load",
    "Header": "facegen.weights.header",
    "save_networks": "facegen.weights.native",
    "save_pretrained": "facegen.weights.hub_folder",
    "push_to_hub": "facegen.weights.hub_folder",
    "convert": "facegen.weights.convert",
    "info": "facegen.weights.info",
    # networks
    "Generator": "facegen.networks.generator",
    "Discriminator": "facegen.networks.discriminator",
    "Encoder": "facegen.networks.encoder",
    "AgeEstimator": "facegen.networks.age_estimator",
    "Editor": "facegen.networks.editor",
    # data
    "AgeGroups": "facegen.ages",
    "FaceArchive": "facegen.data.archive",
    "CropOptions": "facegen.data.options",
    "open_source": "facegen.data.sources",
    "prepare": "facegen.data.prepare",
    "inspect_archive": "facegen.data.inspect",
    # training
    "TrainOptions": "facegen.training.generator.options",
    "train_generator": "facegen.training.generator.loop",
    "EncoderOptions": "facegen.training.encoder.options",
    "train_encoder": "facegen.training.encoder.loop",
    "AgeOptions": "facegen.training.age.options",
    "train_age": "facegen.training.age.loop",
    "find_runs": "facegen.training.run.list",
    "read_options": "facegen.training.run.folder",
    "read_stats": "facegen.training.run.folder",
    # generated faces and figures
    "generate_pairs": "facegen.training.encoder.pairs",
    "grid_latents": "facegen.training.generator.grids",
    "to_pixels": "facegen.figures.grids",
    "image_grid": "facegen.figures.grids",
    "age_strip": "facegen.figures.grids",
    "before_after": "facegen.figures.compare",
    # evaluation
    "MetricsOptions": "facegen.metrics.options",
    "run_metrics": "facegen.metrics.run",
    "Evaluator": "facegen.metrics.evaluate",
    "parse_system": "facegen.evaluation.run",
    "run_evaluation": "facegen.evaluation.run",
    "EvaluationOptions": "facegen.evaluation.options",
    # errors
    "FacegenError": "facegen.errors",
}

__all__ = ["__version__", *_DEFINED_IN]


def __getattr__(name: str) -> Any:
    if name in _DEFINED_IN:
        return getattr(importlib.import_module(_DEFINED_IN[name]), name)
    raise AttributeError(f"module 'facegen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
