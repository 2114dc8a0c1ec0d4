"""The process that holds torch and the model, and napari's side of it."""
