"""The process that holds torch and the model."""
