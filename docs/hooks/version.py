"""Shows the version after the site's name, which stands in the header of every page."""

from gee_core import __version__


def on_config(config):
    """Add the version to the name."""
    config.site_name += f" {__version__}"
    return config
