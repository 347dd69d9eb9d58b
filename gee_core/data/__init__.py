"""Images: where they come from, how they are split, kept, read and augmented."""
