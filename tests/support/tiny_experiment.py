"""An experiment that trains in a second."""

TINY = """
data: {source: {name: sample, crops: 16, scoring_crops: 8}, size: 32}
model:
  name: gan
  generator: {name: unet, width: 4, normalization: group, dropout: 0}
  discriminator: {name: patch, width: 4, layers: 1, normalization: group}
  discriminator_steps: 2
train:
  batch_size: 8
  precision: float32
  grid_pictures: 2
  stages:
    head_start: {turns: l1, epochs: 1, select: false}
    adversarial: {turns: adversarial, epochs: 2}
"""
