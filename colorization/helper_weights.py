"""Weights of the networks that some options need beside the model: whether they are there."""

from colorization.coloring import ColorOptions
from colorization.models.pretrained import refuse_missing


def refuse_download(options: ColorOptions) -> None:
    """Raise ConfigError where options need weights that are not in torch's cache.

    Preparing such options would download them, which takes minutes.
    """
    if options.foreground is not None and options.foreground.mask is None:
        from colorization import segmentation

        weights = segmentation.segmentation_weights(options.foreground.segmenter)
        refuse_missing(weights, segmentation.OTHERWISE)
    if options.instances is not None and options.instances.given is None:
        from colorization import mask_rcnn

        refuse_missing(mask_rcnn.detection_weights(), mask_rcnn.OTHERWISE)
