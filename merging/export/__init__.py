"""The result on disk: file, recipe, attribution, model card, sidecar."""
