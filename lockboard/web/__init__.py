"""Who asks: Flask pages and the JSON interface."""
