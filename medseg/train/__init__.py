"""From a configuration file to a model folder."""
