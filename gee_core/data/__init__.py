"""Images: sources, splits, files on disk, batches and augmentation."""
