"""The widgets of the plugin."""
