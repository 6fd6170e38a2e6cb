"""The publisher: keys, images, releases and signed repositories."""
