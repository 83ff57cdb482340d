"""From Datasets to the inputs of the next scale, with their uncertainty."""
