"""Training pictures: sources, augmentation, clips and batches."""
